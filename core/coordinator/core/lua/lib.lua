-- What several steps share; put in front of each of them.
local base = KEYS[1]
local bucket_ms = 300000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A step that must work while Redis is at its memory limit begins with this: after a first write that needs no memory
-- (a removal), a script's later writes are let through.
local function even_when_full()
  redis.call('DEL', base .. 'none')
end

-- The part of a job document before its input, without the brace: what a record repeats.
local function head_of(job)
  return string.sub(job, 2, string.find(job, ',"input":', 1, true) - 1)
end

-- When a job must be over, or (never started) must have begun: ms of Redis TIME.
local function deadline_of(head, attempt, lifetime)
  local submitted = string.match(head, '^"submitted_at":(%d+)')
  local last = tonumber(submitted) + lifetime
  if attempt == 1 then
    local own = tonumber(string.match(head, '^,"deadline_at":(%d+)', #'"submitted_at":' + #submitted + 1))
    if own and own < last then return own end
  end
  return last
end

local function model_of(head)
  return string.match(head, '"model":"([^"]+)"')
end

-- A stream entry's fields by name.
local function fields_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- How many workers died on this job: names in `crashed`, separated by commas.
local function crashes_of(fields)
  if not fields.crashed then return 0 end
  local _, commas = string.gsub(fields.crashed, ',', '')
  return commas + 1
end

-- The bucket's key of a request id. Most ids of a call share it, so the last one is kept.
local last_front, last_bucket = nil, nil
local function bucket_of(id)
  if not last_front or string.sub(id, 1, #last_front) ~= last_front then
    local front, bucket = string.match(id, '^(%d+%-(%d+)%-)')
    last_front, last_bucket = front, base .. 'results:' .. bucket
  end
  return last_bucket
end

-- When a bucket goes: it takes in ids that are up to two slices of time old, and keeps each record for `keep` ms at least.
local function bucket_end(key, keep)
  return (string.match(key, '(%d+)$') + 3) * bucket_ms + keep
end

-- Records to write, gathered per bucket; `write_records` writes them. A bucket that is gone is not made again.
local records = {}
local last_key, last_list, last_count = nil, nil, nil
local function put(id, record)
  local key = bucket_of(id)
  if key ~= last_key then
    last_key, last_list = key, records[key]
    if not last_list then
      last_list = {}
      records[key] = last_list
    end
    last_count = #last_list
  end
  last_list[last_count + 1] = id
  last_count = last_count + 2
  last_list[last_count] = record
end

local function write_records(expire_at)
  for key, list in pairs(records) do
    local there = redis.call('EXISTS', key) == 1
    if there or expire_at then
      for i = 1, #list, 1000 do
        redis.call('HSET', key, unpack(list, i, math.min(i + 999, #list)))
      end
      if not there then redis.call('PEXPIREAT', key, expire_at(key)) end
    end
  end
  records, last_key = {}, nil
end

-- Remove entries, which were taken in the order of their stream. Where they stand side by side at its head, whole nodes are
-- dropped, for a tenth of what it costs to look for each. `head`: the stream's first id before they were taken.
local function remove_taken(stream, taken, head)
  if head == taken[1] then
    local ms, seq = string.match(taken[#taken], '^(%d+)%-(%d+)$')
    redis.call('XTRIM', stream, 'MINID', ms .. '-' .. string.format('%.0f', seq + 1))
  else
    redis.call('XDEL', stream, unpack(taken))
  end
end

-- Whether one entry id comes before another.
local function precedes(one, other)
  local ms, seq = string.match(one, '^(%d+)%-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)%-(%d+)$')
  if ms == other_ms then return tonumber(seq) < tonumber(other_seq) end
  return tonumber(ms) < tonumber(other_ms)
end

local function head_id(stream)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return first and first[1]
end

-- Tell those who wait for these jobs (a list of id, record, id, record …): one message per channel, a line per job.
local function tell(finals)
  local key = base .. 'waiters'
  if #finals == 0 or redis.call('EXISTS', key) == 0 then return end
  local ids = {}
  for i = 1, #finals, 2 do ids[#ids + 1] = finals[i] end
  local waiting = redis.call('HMGET', key, unpack(ids))
  local messages, gone = {}, {}
  for i, waiter in ipairs(waiting) do
    if waiter then
      gone[#gone + 1] = ids[i]
      local line = ids[i] .. ' ' .. finals[i * 2]
      for channel in string.gmatch(waiter, '([^,@]+)@') do
        local lines = messages[channel]
        if not lines then
          lines = {}
          messages[channel] = lines
        end
        lines[#lines + 1] = line
      end
    end
  end
  if #gone == 0 then return end
  redis.call('HDEL', key, unpack(gone))
  for channel, lines in pairs(messages) do
    redis.call('PUBLISH', channel, table.concat(lines, '\n'))
  end
end

local function wake(model)
  redis.call('ZADD', base .. 'wake', 'NX', now, model)
end

-- Put a job (fields id, attempt, crashed, job) into a lane, and its record with it.
local function enqueue(fields, lane, status)
  local head = head_of(fields.job)
  local model = model_of(head)
  local stream = 'jobs:' .. model .. ':' .. lane
  local entry
  if fields.crashed then
    entry = redis.call('XADD', base .. stream, '*', 'id', fields.id, 'attempt', fields.attempt, 'crashed', fields.crashed,
      'job', fields.job)
  else
    entry = redis.call('XADD', base .. stream, '*', 'id', fields.id, 'attempt', fields.attempt, 'job', fields.job)
  end
  local before = ''
  if tonumber(fields.attempt) > 1 then before = '"attempts":' .. (fields.attempt - 1) .. ',' end
  put(fields.id, '{"status":"' .. status .. '","at":"' .. stream .. ' ' .. entry .. '",' .. before .. head .. '}')
  wake(model)
end

-- A job whose time ran out before it could start (again).
local function end_expired(fields, finals)
  local head = head_of(fields.job)
  local before = ''
  if tonumber(fields.attempt) > 1 then before = '"attempts":' .. (fields.attempt - 1) .. ',' end
  local record = '{"status":"expired","finished_at":' .. now .. ',' .. before .. head .. '}'
  put(fields.id, record)
  finals[#finals + 1] = fields.id
  finals[#finals + 1] = record
  if string.find(head, '"input_bytes":', 1, true) then redis.call('UNLINK', base .. 'blob:' .. fields.id .. ':in') end
end

-- A job that is not tried again: into the dead-letter stream, with a failed record. `problem` is JSON.
local function bury(fields, reason, worker, problem, dead_retention, finals)
  local head = head_of(fields.job)
  local crashed = fields.crashed or ''
  local entry = redis.call('XADD', base .. 'dead', '*', 'id', fields.id, 'model', model_of(head), 'reason', reason,
    'attempts', fields.attempt, 'worker', worker, 'died_at', now, 'crashed', crashed, 'error', problem, 'job', fields.job)
  redis.call('HSET', base .. 'dead:index', fields.id, entry)
  local who = ''
  if crashed ~= '' then who = '"crashed_workers":["' .. string.gsub(crashed, ',', '","') .. '"],' end
  local record = '{"status":"failed","finished_at":' .. now .. ',"worker_id":"' .. worker .. '","attempts":' ..
    fields.attempt .. ',"dead_letter":"' .. entry .. '","error":' .. problem .. ',' .. who .. head .. '}'
  put(fields.id, record)
  finals[#finals + 1] = fields.id
  finals[#finals + 1] = record
  if string.find(head, '"input_bytes":', 1, true) then
    redis.call('PEXPIRE', base .. 'blob:' .. fields.id .. ':in', dead_retention)
  end
end
