-- reclaim: take back what a lost, replaced or retiring worker holds, and in the end remove its inboxes.
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <retire> <count> <max_crashes> <lifetime> <dead_retention>
-- KEYS[1]: the partition's base; worker, workers, serving, inbox, jobs, dead, dead:index, results, waiters, blob, wake follow from it
-- ARGV[1]: worker
-- ARGV[2]: 1 ends a worker that may be alive, 0 leaves a live one alone
-- ARGV[3]: the most entries to move
-- ARGV[4]: a job that took down so many workers is poison
-- ARGV[5]: the longest life of a job, ms
-- ARGV[6]: how long a dead letter is kept, ms
-- returns: jobs back in their retry lane, jobs dead, 1 if there is more
--
-- Who is to blame for a crash: all that the worker had started. What it was given and had not started it has marked, by a
-- delivery count of 0; after a crash a job runs only alone, so that the next crash has one culprit.
even_when_full()
local worker, retire, count = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local max_crashes, lifetime, dead_retention = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local key = base .. 'worker:' .. worker
local found = redis.call('HMGET', key, 'state', 'models', 'blameless')
if not found[1] then
  redis.call('ZREM', base .. 'workers', worker)
  return { 0, 0, 0 }
end
local lease = redis.call('ZSCORE', base .. 'workers', worker)
local alive = lease and tonumber(lease) > now and found[1] ~= 'replaced' and found[1] ~= 'retiring'
if alive and not retire then return { 0, 0, 0 } end
if retire then
  redis.call('HSET', key, 'state', 'retiring')
  redis.call('ZADD', base .. 'workers', now, worker)
elseif found[1] == 'live' or found[1] == 'draining' then
  redis.call('HSET', key, 'state', 'lost')
end
local inboxes = {}
for model in pairs(cjson.decode(found[2])) do
  redis.call('HDEL', base .. 'serving:' .. model, worker)
  inboxes[#inboxes + 1] = base .. 'inbox:' .. worker .. ':' .. model
end
table.sort(inboxes)

local requeued, buried, finals = 0, 0, {}
local function give_back(fields, blamed)
  if blamed then
    fields.crashed = (fields.crashed and fields.crashed .. ',' or '') .. worker
    if crashes_of(fields) >= max_crashes then
      bury(fields, 'poison', worker, '{"type":"poison","message":"' .. crashes_of(fields) ..
        ' workers died while they ran this job."}', dead_retention, finals)
      buried = buried + 1
      return
    end
    fields.attempt = fields.attempt + 1
  end
  if deadline_of(head_of(fields.job), tonumber(fields.attempt), lifetime) <= now then
    end_expired(fields, finals)
  else
    enqueue(fields, 'retry', tonumber(fields.attempt) > 1 and 'retrying' or 'queued')
  end
  requeued = requeued + 1
end

-- What was delivered.
local blaming = not retire and found[1] ~= 'retiring' and not found[3]
local moved = 0
for _, inbox in ipairs(inboxes) do
  local pending = {}
  if moved < count then pending = redis.pcall('XPENDING', inbox, 'worker', '-', '+', count - moved) end
  local taken = {}
  for i, row in ipairs(pending.err and {} or pending) do
    taken[i] = row[1]
    local entry = redis.call('XRANGE', inbox, row[1], row[1])[1]
    if entry then
      give_back(fields_of(entry[2]), blaming and row[4] > 0)
      moved = moved + 1
    end
  end
  if #taken > 0 then
    redis.call('XACK', inbox, 'worker', unpack(taken))
    redis.call('XDEL', inbox, unpack(taken))
  end
end

-- What lay unread.
local left = 0
for _, inbox in ipairs(inboxes) do
  if moved < count then
    local rows = redis.call('XRANGE', inbox, '-', '+', 'COUNT', count - moved)
    for _, row in ipairs(rows) do
      give_back(fields_of(row[2]), false)
    end
    if #rows > 0 then redis.call('XTRIM', inbox, 'MAXLEN', redis.call('XLEN', inbox) - #rows) end
    moved = moved + #rows
  end
  left = left + redis.call('XLEN', inbox)
end
write_records()
tell(finals)
if left > 0 then return { requeued, buried, 1 } end
for _, inbox in ipairs(inboxes) do redis.call('DEL', inbox) end
if retire or found[1] == 'retiring' then
  redis.call('DEL', key)
  redis.call('ZREM', base .. 'workers', worker)
end
return { requeued, buried, 0 }
