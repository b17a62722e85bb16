-- heartbeat: renew a worker's lease, unless another life has its id.
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <incarnation> <lease_ms> <taking>
-- KEYS[1]: the partition's base; worker, workers, serving, wake follow from it
-- ARGV[1]: worker
-- ARGV[2]: incarnation, or '' for whoever has the id now
-- ARGV[3]: lease, ms
-- ARGV[4]: 1 takes new work, 0 keeps what it has but is to get no more
-- returns: live | draining | superseded | unknown; now in ms
even_when_full()
local worker, incarnation = ARGV[1], ARGV[2]
local found = redis.call('HMGET', base .. 'worker:' .. worker, 'incarnation', 'state', 'models')
if not found[1] then return { 'unknown', now } end
if incarnation ~= '' and found[1] ~= incarnation then return { 'superseded', now } end
if found[2] ~= 'live' and found[2] ~= 'draining' then return { 'unknown', now } end
local lease = redis.call('ZSCORE', base .. 'workers', worker)
local was_over = not lease or tonumber(lease) <= now
redis.call('ZADD', base .. 'workers', now + tonumber(ARGV[3]), worker)
if found[2] == 'live' then
  for model, offer in pairs(cjson.decode(found[3])) do
    local key = base .. 'serving:' .. model
    if ARGV[4] == '0' then
      redis.call('HDEL', key, worker)
    elseif redis.call('HSETNX', key, worker, (offer.capacity or 1) .. ':' .. offer.window) == 1 or was_over then
      wake(model)
    end
  end
end
return { found[2], now }
