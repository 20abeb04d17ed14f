-- Payments from random accounts, all to the first one. Arguments: seed, id of the first account, number of accounts.
dofile("common.lua")

function init(args)
    math.randomseed(tonumber(args[1]))
    local first, number = tonumber(args[2]), tonumber(args[3])
    prepare(20000, function()
        return post("/payments", payment(first + math.random(number - 1), first, "0.01"))
    end)
end
