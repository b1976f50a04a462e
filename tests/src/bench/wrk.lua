-- SPDX-License-Identifier: GPL-2.0-only
-- wrk's requests: ranged GETs of one volume. Arguments: bytes a request, requests that make up the
-- span, "random" or "sequential".

local requests = {}
local at = 0

-- They are all made beforehand: making one costs as much as sending it.
function init(args)
    local size, blocks, order = tonumber(args[1]), tonumber(args[2]), args[3]
    math.randomseed(4711)
    for i = 1, 4096 do
        local block = (i - 1) % blocks
        if order == "random" then
            block = math.random(0, blocks - 1)
        end
        local first = block * size
        local range = string.format("bytes=%d-%d", first, first + size - 1)
        requests[i] = wrk.format("GET", nil, { Range = range })
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end
