-- forget: remove registrations of workers that were lost long ago and hold nothing.
-- call: EVALSHA <sha> 1 coord:{p}: <retention>
-- KEYS[1]: the partition's base; worker, workers, serving, inbox follow from it
-- ARGV[1]: for how long a lost worker is still listed, ms
-- returns: how many were removed
local removed = 0
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', base .. 'workers', '-inf', now - ARGV[1], 'LIMIT', 0, 100)) do
  local key = base .. 'worker:' .. worker
  local models = cjson.decode(redis.call('HGET', key, 'models') or '{}')
  local held = 0
  for model in pairs(models) do
    held = held + redis.call('XLEN', base .. 'inbox:' .. worker .. ':' .. model)
  end
  if held == 0 then
    for model in pairs(models) do
      redis.call('HDEL', base .. 'serving:' .. model, worker)
      redis.call('DEL', base .. 'inbox:' .. worker .. ':' .. model)
    end
    redis.call('DEL', key)
    redis.call('ZREM', base .. 'workers', worker)
    removed = removed + 1
  end
end
return removed
