-- SPDX-License-Identifier: Apache-2.0
-- Sends the requests of a folder by turns: N.path has the path, N.json the body.
local requests, next = {}, 0

function init(args)
  local n = 1
  while true do
    local path = io.open(args[1] .. "/" .. n .. ".path")
    if not path then break end
    local body = io.open(args[1] .. "/" .. n .. ".json")
    requests[n] = wrk.format("POST", path:read("*a"), { ["Content-Type"] = "application/json" }, body:read("*a"))
    path:close()
    body:close()
    n = n + 1
  end
end

function request()
  next = next % #requests + 1
  return requests[next]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("\nresult %d %d %f %f %d\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
