-- Many payments a request. Arguments: seed, id of the first account, number of accounts, payments a request.
dofile("common.lua")

function init(args)
    math.randomseed(tonumber(args[1]))
    local first, number, payments = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
    prepare(50, function()
        local all = {}
        for n = 1, payments do
            local buyer, seller = pair(first, number)
            all[n] = payment(buyer, seller, "0.01")
        end
        return post("/payments/batch", '{"Payments":[' .. table.concat(all, ",") .. "]}")
    end)
end
