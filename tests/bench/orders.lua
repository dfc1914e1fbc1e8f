-- One order for each line of a file of cart ids, each under a key of its own: wrk ... -- CARTS WARM_S WINDOW_S
--
-- Answers count within the window, which opens after the warm-up. When it closes, or when the carts run out, no more
-- is asked for; what is under way gets its answer, so that every order that was begun is known, and wrk is told to end.
-- That is what wrk's `delay` is for: it is called before every request, so behind every answer.

dofile("tell.lua")

local ffi = require("ffi")
ffi.cdef[[
  typedef struct { long s; long us; } bench_time;
  int gettimeofday(bench_time *at, void *zone);
  int getpid(void);
  int kill(int pid, int signal);
]]

local FOREVER_MS = 3600 * 1000
-- wrk ends its run at once and reports, as it does at the end of its time.
local SIGINT = 2
local BODY = '{"cartId": "%s", "paymentToken": "tok_ok", "destination":'
  .. ' {"country": "DE", "postalCode": "10115", "address": "Invalidenstrasse 43, Berlin"}}'
local HEAD = "POST /v1/orders HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
  .. "Idempotency-Key: %s\r\nContent-Length: %d\r\n\r\n"

local clock = ffi.new("bench_time")
local carts = {}
local threads = {}
-- What `done`, which runs elsewhere, asks for has to be global.
granted, sent, begins, answered, counted = 0, -1, 0, 0, 0
began_us, opens_us, closes_us, closed_us, last_us = 0, 0, 0, 0, 0

local function now_us()
  ffi.C.gettimeofday(clock, nil)
  return tonumber(clock.s) * 1e6 + tonumber(clock.us)
end

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  for cart_id in io.lines(args[1]) do
    carts[#carts + 1] = cart_id
  end
  warm_us, window_us, connections = tonumber(args[2]) * 1e6, tonumber(args[3]) * 1e6, tonumber(args[4])
end

local function begin(at_us)
  began_us, opens_us = at_us, at_us + warm_us
  closes_us = opens_us + window_us
end

local function note_answer(at_us)
  answered, last_us = answered + 1, at_us
  if at_us >= opens_us and closed_us == 0 then
    counted = counted + 1
  end
end

function delay()
  local at_us = now_us()
  if begins == 0 then
    begin(at_us)
  end
  -- The first call for each connection is before its first request.
  if begins < connections then
    begins = begins + 1
  else
    note_answer(at_us)
  end
  if granted < #carts and at_us < closes_us then
    granted = granted + 1
    return 0
  end
  if closed_us == 0 then
    closed_us = math.min(at_us, closes_us)
  end
  if begins == connections and answered == granted then
    ffi.C.kill(ffi.C.getpid(), SIGINT)
  end
  return FOREVER_MS
end

function request()
  -- wrk makes one request before the first, to look at it, and does not send it.
  sent = sent + 1
  local cart_id = carts[math.max(sent, 1)]
  local body = BODY:format(cart_id)
  return HEAD:format(cart_id, #body) .. body
end

function done(summary, latency)
  local fields = {}
  for _, name in ipairs({ "sent", "answered", "counted", "began_us", "opens_us", "closed_us", "last_us" }) do
    fields[name] = threads[1]:get(name)
  end
  tell(summary, latency, fields)
end
