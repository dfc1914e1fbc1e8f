-- The same POST of JSON again and again: wrk ... -- BODY. The request is put together once, and stays in C.

dofile("tell.lua")

function init(args)
  wrk.method, wrk.body = "POST", args[1]
  wrk.headers["Content-Type"] = "application/json"
end

function done(summary, latency)
  tell(summary, latency, {})
end
