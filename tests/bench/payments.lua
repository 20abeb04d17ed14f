-- Payments between random accounts. Arguments: seed, id of the first account, number of accounts.
dofile("common.lua")

function init(args)
    math.randomseed(tonumber(args[1]))
    local first, number = tonumber(args[2]), tonumber(args[3])
    prepare(20000, function()
        local buyer, seller = pair(first, number)
        return post("/payments", payment(buyer, seller, "0.01"))
    end)
end
