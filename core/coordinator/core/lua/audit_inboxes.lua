-- audit_inboxes: prove that each inbox belongs to a registered worker that serves its model; mend what is not so.
-- call: EVALSHA <sha> 1 coord:{p}: <repair> (<worker> <model>)…
-- KEYS[1]: the partition's base; inbox, worker, workers, jobs, results, wake follow from it
-- ARGV[1]: 1 mends
-- ARGV[2..]: per inbox worker and model
-- returns: findings (kind, '', inbox …), '', how many were looked at
--
-- A worker that is gone is entered again as lost, so that the reclaimer drains the inbox as any lost worker's. From a
-- worker that lives and does not serve the model the jobs are taken at once, a hundred a call.
local repair = ARGV[1] == '1'
if repair then even_when_full() end
local findings = {}

local function give_back(inbox)
  for _, row in ipairs(redis.call('XRANGE', inbox, '-', '+', 'COUNT', 100)) do
    local fields = fields_of(row[2])
    redis.pcall('XACK', inbox, 'worker', row[1])
    redis.call('XDEL', inbox, row[1])
    enqueue(fields, 'retry', tonumber(fields.attempt) > 1 and 'retrying' or 'queued')
  end
  if redis.call('XLEN', inbox) == 0 then redis.call('DEL', inbox) end
end

local looked = 0
local at = 2
while ARGV[at] do
  local worker, model = ARGV[at], ARGV[at + 1]
  at = at + 2
  looked = looked + 1
  local inbox, key = base .. 'inbox:' .. worker .. ':' .. model, base .. 'worker:' .. worker
  if redis.call('EXISTS', inbox) == 1 then
    local stored = redis.call('HMGET', key, 'state', 'models')
    local offers = stored[2] and cjson.decode(stored[2]) or {}
    if not offers[model] then
      findings[#findings + 1] = stored[2] and 'inbox_not_served' or 'orphan_inbox'
      findings[#findings + 1] = ''
      findings[#findings + 1] = 'inbox:' .. worker .. ':' .. model
      if repair then
        if redis.call('XLEN', inbox) == 0 then
          redis.call('DEL', inbox)
        elseif stored[1] == 'live' or stored[1] == 'draining' then
          give_back(inbox)
        else
          offers[model] = { capacity = 1, window = 1 }
          redis.call('HSET', key, 'models', cjson.encode(offers))
          redis.call('HSETNX', key, 'incarnation', 'lost')
          redis.call('HSETNX', key, 'state', 'lost')
          redis.call('HSETNX', key, 'metadata', '{}')
          redis.call('HSETNX', key, 'registered_at', now)
          redis.call('ZADD', base .. 'workers', now, worker)
        end
      end
    end
  end
end
write_records()
return { findings, '', looked }
