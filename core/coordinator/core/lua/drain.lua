-- drain: give a worker no more work; what it has it may finish.
-- call: EVALSHA <sha> 1 coord:{p}: <worker>
-- KEYS[1]: the partition's base; worker, serving follow from it
-- ARGV[1]: worker
-- returns: 1, or 0 when there is no such worker
even_when_full()
local key = base .. 'worker:' .. ARGV[1]
local found = redis.call('HMGET', key, 'state', 'models')
if not found[1] then return 0 end
if found[1] == 'live' then redis.call('HSET', key, 'state', 'draining') end
for model in pairs(cjson.decode(found[2])) do redis.call('HDEL', base .. 'serving:' .. model, ARGV[1]) end
return 1
