-- The original's test: random amounts below 10.00 between random accounts, the same one twice perhaps. Most are
-- refused. Arguments: seed, id of the first account, number of accounts.
dofile("common.lua")

statuses = {}

function init(args)
    math.randomseed(tonumber(args[1]))
    local first, number = tonumber(args[2]), tonumber(args[3])
    prepare(20000, function()
        local buyer, seller = first + math.random(number) - 1, first + math.random(number) - 1
        return post("/payments", payment(buyer, seller, string.format("%.2f", (math.random(1000) - 1) / 100)))
    end)
end

function response(status)
    statuses[status] = (statuses[status] or 0) + 1
end
