-- audit_workers: prove that each worker has both its registration and its lease; mend what is not so.
-- call: EVALSHA <sha> 1 coord:{p}: <repair> <worker>…
-- KEYS[1]: the partition's base; worker, workers follow from it
-- ARGV[1]: 1 mends
-- ARGV[2..]: workers
-- returns: findings (kind, '', worker …), '', how many were looked at
local repair = ARGV[1] == '1'
if repair then even_when_full() end
local findings = {}
local at = 2
while ARGV[at] do
  local worker = ARGV[at]
  at = at + 1
  local key = base .. 'worker:' .. worker
  local stored = redis.call('HMGET', key, 'incarnation', 'state', 'models')
  local whole = stored[1] and stored[2] and stored[3] and pcall(cjson.decode, stored[3])
  local lease = redis.call('ZSCORE', base .. 'workers', worker)
  local kind = nil
  if whole and not lease then
    kind = 'worker_without_lease'
    -- Lapsed: the reclaimer takes back what it holds, and a worker that lives after all registers again.
    if repair then redis.call('ZADD', base .. 'workers', now, worker) end
  elseif not whole and redis.call('EXISTS', key) == 1 then
    kind = 'malformed_worker'
    if repair then
      redis.call('DEL', key)
      redis.call('ZREM', base .. 'workers', worker)
    end
  elseif lease and not whole then
    kind = 'lease_without_worker'
    if repair then redis.call('ZREM', base .. 'workers', worker) end
  end
  if kind then
    findings[#findings + 1] = kind
    findings[#findings + 1] = ''
    findings[#findings + 1] = 'worker:' .. worker
  end
end
return { findings, '', #ARGV - 1 }
