-- register: enter a worker with its lease, its inboxes and its place among those who serve its models.
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <incarnation> <lease_ms> <metadata> <models> (<model> <capacity> <window>)…
-- KEYS[1]: the partition's base; worker, workers, models, serving, inbox, wake follow from it
-- ARGV[1]: worker
-- ARGV[2]: incarnation
-- ARGV[3]: lease, ms
-- ARGV[4]: metadata as JSON
-- ARGV[5]: the offers as JSON, model → offer
-- ARGV[6..]: per model name, capacity, window
-- returns: 1, or 0 when an earlier life of the id still holds work (reclaim it, call again); now in ms
even_when_full()
local worker, incarnation, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key = base .. 'worker:' .. worker
local before = redis.call('HMGET', key, 'incarnation', 'state', 'models')
local alive = before[1] == incarnation and (before[2] == 'live' or before[2] == 'draining')
local renewed = alive
local old = cjson.decode(before[3] or '{}')
if alive then
  -- A model that it gave up would leave an inbox that nobody reads: that is a new life too, though not after a crash.
  local offered = cjson.decode(ARGV[5])
  for model in pairs(old) do
    if not offered[model] then renewed = false end
  end
end
if before[1] and not renewed then
  local held = 0
  for model in pairs(old) do
    redis.call('HDEL', base .. 'serving:' .. model, worker)
    held = held + redis.call('XLEN', base .. 'inbox:' .. worker .. ':' .. model)
  end
  if held > 0 then
    if alive then
      redis.call('HSET', key, 'blameless', 1)
    elseif before[1] ~= incarnation then
      redis.call('HDEL', key, 'blameless')
    end
    redis.call('HSET', key, 'incarnation', incarnation, 'state', 'replaced')
    return { 0, now }
  end
  for model in pairs(old) do redis.call('DEL', base .. 'inbox:' .. worker .. ':' .. model) end
  redis.call('DEL', key)
end
redis.call('HSET', key, 'incarnation', incarnation, 'state', 'live', 'metadata', ARGV[4], 'models', ARGV[5])
redis.call('HSETNX', key, 'registered_at', now)
redis.call('ZADD', base .. 'workers', now + lease, worker)
local at = 6
while ARGV[at] do
  local model = ARGV[at]
  redis.call('HSETNX', base .. 'models', model, now)
  redis.pcall('XGROUP', 'CREATE', base .. 'inbox:' .. worker .. ':' .. model, 'worker', '0', 'MKSTREAM')
  redis.call('HSET', base .. 'serving:' .. model, worker, ARGV[at + 1] .. ':' .. ARGV[at + 2])
  wake(model)
  at = at + 3
end
return { 1, now }
