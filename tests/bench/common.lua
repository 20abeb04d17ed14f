-- What every script of wrk ends with: one line of JSON, for load.py.
-- wrk counts answers of 400 and above by itself. A script that wants each status apart counts them in `statuses`,
-- which costs wrk time: it then has to hand every answer to Lua.

local worker

function setup(thread)
    worker = thread
end

function done(summary, latency, requests)
    local counted = {}
    for status, number in pairs(worker:get("statuses") or {}) do
        table.insert(counted, string.format('"%s":%d', status, number))
    end
    local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    io.write(string.format(
        '{"requests":%d,"refused":%d,"failed":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"statuses":{%s}}\n',
        summary.requests, summary.errors.status, failed, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, table.concat(counted, ",")
    ))
end

-- Requests are made before the clock starts, so that wrk, which shares the cores, has little to do while it runs.
function prepare(number, make)
    local prepared = {}
    for n = 1, number do
        prepared[n] = make()
    end
    local next_one = 0
    function request()
        next_one = next_one % number + 1
        return prepared[next_one]
    end
end

function post(path, body)
    wrk.headers["Content-Type"] = "application/json"
    return wrk.format("POST", path, nil, body)
end

function payment(buyer, seller, amount)
    return string.format('{"BuyerAccountID":%d,"SellerAccountID":%d,"Amount":%s}', buyer, seller, amount)
end

-- Two different ones of the accounts first … first + number - 1.
function pair(first, number)
    local buyer, seller = math.random(number) - 1, math.random(number - 1) - 1
    if seller >= buyer then
        seller = seller + 1
    end
    return first + buyer, first + seller
end
