-- overdue: take away what a live worker has worked on for longer than the job's time limit, and what it will never read.
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <model> <cursor> <count> <timeout> <grace> <max_attempts> <lifetime> <dead_retention>
-- KEYS[1]: the partition's base; inbox, serving, jobs, dead, dead:index, results, waiters, blob, starved, wake follow from it
-- ARGV[1]: worker
-- ARGV[2]: model
-- ARGV[3]: where to go on, '' from the start
-- ARGV[4]: the most entries to look at
-- ARGV[5]: time limit of a job that doesn't say, ms
-- ARGV[6]: grace after the limit, ms: the worker itself gets that long to give up the job (or to read one)
-- ARGV[7]: tries of a job that doesn't say
-- ARGV[8]: the longest life of a job, ms
-- ARGV[9]: how long a dead letter is kept, ms
-- returns: jobs back in their retry lane or expired, jobs dead, where to go on ('' at the end)
--
-- A worker that takes no work (it drains, or its loop stands still) may never read what lies in its inbox, and being
-- alive it is not reclaimed; so its unread entries are given back. Those past their deadline end at any worker.
even_when_full()
local worker, model, cursor, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local default_timeout, grace, default_attempts = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local lifetime, dead_retention = tonumber(ARGV[8]), tonumber(ARGV[9])
local inbox = base .. 'inbox:' .. worker .. ':' .. model
local from = '-'
if cursor ~= '' then from = '(' .. cursor end
local pending = redis.pcall('XPENDING', inbox, 'worker', 'IDLE', grace, from, '+', count)
if pending.err then return { 0, 0, '' } end
local requeued, buried, finals = 0, 0, {}

local function give_up_unread()
  local group = fields_of(redis.call('XINFO', 'GROUPS', inbox)[1])
  if redis.call('XLEN', inbox) == group.pending then return end
  local first = '(' .. group['last-delivered-id']
  local oldest = redis.call('XRANGE', inbox, first, '+', 'COUNT', 1)[1]
  if not oldest or now - string.match(oldest[1], '^(%d+)') <= grace then return end
  local taking = redis.call('HEXISTS', base .. 'serving:' .. model, worker) == 1
  for _, row in ipairs(redis.call('XRANGE', inbox, first, '+', 'COUNT', count)) do
    local fields = fields_of(row[2])
    local expired = deadline_of(head_of(fields.job), tonumber(fields.attempt), lifetime) <= now
    if expired or (not taking and now - string.match(row[1], '^(%d+)') > grace) then
      redis.call('XDEL', inbox, row[1])
      if expired then
        end_expired(fields, finals)
      else
        enqueue(fields, 'retry', tonumber(fields.attempt) > 1 and 'retrying' or 'queued')
      end
      requeued = requeued + 1
    end
  end
end

if cursor == '' then give_up_unread() end
for _, row in ipairs(pending) do
  local entry, idle = row[1], row[3]
  cursor = entry
  local found = redis.call('XRANGE', inbox, entry, entry)[1]
  if not found then
    redis.call('XACK', inbox, 'worker', entry)
  else
    local fields = fields_of(found[2])
    local head = head_of(fields.job)
    local timeout = tonumber(string.match(head, '"timeout_ms":(%d+)')) or default_timeout
    local last = deadline_of(head, 2, lifetime)
    if idle > timeout + grace or now > last + grace then
      redis.call('XACK', inbox, 'worker', entry)
      redis.call('XDEL', inbox, entry)
      local allowed = tonumber(string.match(head, '"max_attempts":(%d+)')) or default_attempts
      if fields.attempt - crashes_of(fields) >= allowed or now >= last then
        bury(fields, now >= last and 'lifetime' or 'attempts', worker, '{"type":"timeout","message":"Not finished within ' ..
          timeout / 1000 .. ' s, and the worker did not give it up."}', dead_retention, finals)
        buried = buried + 1
      else
        fields.attempt = fields.attempt + 1
        enqueue(fields, 'retry', 'retrying')
        requeued = requeued + 1
      end
    end
  end
end
write_records()
tell(finals)
if requeued + buried > 0 and redis.call('SREM', base .. 'starved', model) == 1 then wake(model) end
if #pending < count then cursor = '' end
return { requeued, buried, cursor }
