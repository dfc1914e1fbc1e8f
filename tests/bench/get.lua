-- The same GET again and again: the request is wrk's own, and stays in C.

dofile("tell.lua")

function done(summary, latency)
  tell(summary, latency, {})
end
