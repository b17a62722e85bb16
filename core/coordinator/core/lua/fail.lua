-- fail: what becomes of jobs that a worker could not finish, each fenced by its inbox entry.
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <model> <max_attempts> <lifetime> <dead_retention> (<entry> <kind> <delay> <problem>)…
-- KEYS[1]: the partition's base; inbox, jobs, parked, delayed, dead, dead:index, results, waiters, blob, starved, wake follow from it
-- ARGV[1]: worker
-- ARGV[2]: model
-- ARGV[3]: tries of a job that doesn't say
-- ARGV[4]: the longest life of a job, ms
-- ARGV[5]: how long a dead letter is kept, ms
-- ARGV[6..]: per job inbox entry, kind (retry, final, release, expired), delay before a retry in ms, problem as JSON
-- returns: per job retrying, dead, released, expired or stale
local worker, model, default_attempts = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lifetime, dead_retention = tonumber(ARGV[4]), tonumber(ARGV[5])
local inbox = base .. 'inbox:' .. worker .. ':' .. model
local answers, finals = {}, {}

local function settle(fields, kind, delay, problem)
  local head = head_of(fields.job)
  if kind == 'expired' then
    end_expired(fields, finals)
    return 'expired'
  end
  if kind == 'release' then
    enqueue(fields, 'retry', tonumber(fields.attempt) > 1 and 'retrying' or 'queued')
    return 'released'
  end
  if kind == 'final' then
    bury(fields, 'final', worker, problem, dead_retention, finals)
    return 'dead'
  end
  local allowed = tonumber(string.match(head, '"max_attempts":(%d+)')) or default_attempts
  if fields.attempt - crashes_of(fields) >= allowed then
    bury(fields, 'attempts', worker, problem, dead_retention, finals)
    return 'dead'
  end
  if now + delay >= deadline_of(head, 2, lifetime) then
    bury(fields, 'lifetime', worker, problem, dead_retention, finals)
    return 'dead'
  end
  local attempts = fields.attempt
  fields.attempt = attempts + 1
  if delay == 0 then
    enqueue(fields, 'retry', 'retrying')
    return 'retrying'
  end
  local entry
  if fields.crashed then
    entry = redis.call('XADD', base .. 'parked', '*', 'id', fields.id, 'attempt', fields.attempt, 'crashed', fields.crashed,
      'lane', 'retry', 'job', fields.job)
  else
    entry = redis.call('XADD', base .. 'parked', '*', 'id', fields.id, 'attempt', fields.attempt, 'lane', 'retry',
      'job', fields.job)
  end
  redis.call('ZADD', base .. 'delayed', now + delay, entry)
  put(fields.id, '{"status":"retrying","at":"parked ' .. entry .. '","attempts":' .. attempts .. ',"error":' .. problem ..
    ',' .. head .. '}')
  return 'retrying'
end

local at = 6
while ARGV[at] do
  local entry, kind, delay, problem = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  at = at + 4
  if redis.call('XACK', inbox, 'worker', entry) == 1 then
    local found = redis.call('XRANGE', inbox, entry, entry)[1]
    redis.call('XDEL', inbox, entry)
    answers[#answers + 1] = found and settle(fields_of(found[2]), kind, delay, problem) or 'stale'
  else
    answers[#answers + 1] = 'stale'
  end
end
write_records()
tell(finals)
if redis.call('SREM', base .. 'starved', model) == 1 then wake(model) end
return answers
