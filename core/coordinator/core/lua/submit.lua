-- submit: accept jobs into their lanes (or, with a delay, into parked), each with its record; once per request id.
-- call: EVALSHA <sha> 1 coord:{p}: <lifetime> <retention> <max_backlog> (<model> <lane> <n> <id>… (<options> <tail> [<blob>])…)…
-- KEYS[1]: the partition's base; jobs, results, models, serving, pressure, parked, delayed, wake, blob follow from it
-- ARGV[1]: the longest life of a job, ms
-- ARGV[2]: how long an outcome is kept after that, ms
-- ARGV[3]: how many jobs of one model may wait
-- ARGV[4..]: per group model, lane, number of jobs, their ids; per job options ('' or JSON), rest of the job document, [blob]
-- returns: now in ms, how many models have no worker, their names, and for each job not accepted: index, letter, the id known for it
local lifetime, retention, max_backlog = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local current = math.floor(now / bucket_ms)
local pressed = redis.call('EXISTS', base .. 'pressure') == 1
local away, special = {}, {}
local seen = {}
local index = -1

-- Fetch what is known of the ids from ARGV[first] to ARGV[last]: one HMGET costs a fifth of one HGET a job.
local function look_up(first, last)
  local by_bucket = {}
  for i = first, last do
    local bucket = bucket_of(ARGV[i])
    local ids = by_bucket[bucket]
    if not ids then
      ids = {}
      by_bucket[bucket] = ids
    end
    ids[#ids + 1] = ARGV[i]
  end
  for bucket, ids in pairs(by_bucket) do
    local found = redis.call('HMGET', bucket, unpack(ids))
    for i, id in ipairs(ids) do seen[id] = seen[id] or found[i] end
  end
end

local function known(id)
  if seen[id] == nil then seen[id] = redis.call('HGET', bucket_of(id), id) end
  return seen[id]
end

-- The job under an idempotency key: senders guess the bucket of its id, and may differ by one or two.
local function namesake(id)
  local p, random = string.match(id, '^(%d+)%-%d+%-(.+)$')
  for bucket = current + 1, current - 2, -1 do
    local other = p .. '-' .. bucket .. '-' .. random
    local record = known(other)
    if record then return other, record end
  end
end

local last_bucket_key, last_bucket_number
local function bucket_number(id)
  local key = bucket_of(id)
  if key ~= last_bucket_key then last_bucket_key, last_bucket_number = key, tonumber(string.match(key, '(%d+)$')) end
  return last_bucket_number
end

local born = '{"submitted_at":' .. now .. ','

local function say(letter, id)
  special[#special + 1] = index
  special[#special + 1] = letter
  special[#special + 1] = id
end

local at = 4
while ARGV[at] do
  local model, lane, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  local unknown = redis.call('HEXISTS', base .. 'models', model) == 0
  if not unknown and redis.call('HLEN', base .. 'serving:' .. model) == 0 then away[#away + 1] = model end
  local waiting = 0
  for _, name in ipairs({ 'retry', 'high', 'normal', 'low' }) do
    waiting = waiting + redis.call('XLEN', base .. 'jobs:' .. model .. ':' .. name)
  end
  local room = max_backlog - waiting
  local parked_room = nil
  local stream = 'jobs:' .. model .. ':' .. lane
  local added = false
  local first = at
  at = at + count
  look_up(first, at - 1)
  for i = first, first + count - 1 do
    index = index + 1
    local id, tail = ARGV[i], ARGV[at + 1]
    local options = nil
    if ARGV[at] ~= '' then options = cjson.decode(ARGV[at]) end
    local blob = options and options.blob and ARGV[at + 2]
    at = at + (blob and 3 or 2)
    local key = options and options.key
    local record, same = known(id), id
    if not record and key then same, record = namesake(id) end
    local bucket = bucket_number(id)
    if record then
      -- Without a key only the first sender knows the id; with one, the record's first `key` is the job's own.
      say((not key or string.match(record, '"key":"([^"]*)"') == key) and 'd' or 'c', same)
    elseif unknown then
      say('u', '')
    elseif bucket < current - 2 or bucket > current + 1 then
      say('o', '')
    elseif pressed then
      say('p', '')
    else
      local job = born
      if options and options.ttl then job = job .. '"deadline_at":' .. (now + options.ttl) .. ',' end
      job = job .. tail
      local head = head_of(job)
      if options and options.delay then
        parked_room = parked_room or (max_backlog - redis.call('XLEN', base .. 'parked'))
        if parked_room <= 0 then
          say('f', '')
        else
          parked_room = parked_room - 1
          local entry = redis.call('XADD', base .. 'parked', '*', 'id', id, 'attempt', 1, 'lane', lane, 'job', job)
          redis.call('ZADD', base .. 'delayed', now + options.delay, entry)
          record = '{"status":"queued","at":"parked ' .. entry .. '",' .. head .. '}'
        end
      elseif room <= 0 then
        say('f', '')
      else
        room = room - 1
        added = true
        local entry = redis.call('XADD', base .. stream, '*', 'id', id, 'attempt', '1', 'job', job)
        record = '{"status":"queued","at":"' .. stream .. ' ' .. entry .. '",' .. head .. '}'
      end
      if record then
        put(id, record)
        seen[id] = record
        if blob then redis.call('SET', base .. 'blob:' .. id .. ':in', blob, 'PX', lifetime + retention) end
      end
    end
  end
  if added then wake(model) end
end
write_records(function(key)
  return bucket_end(key, lifetime + retention)
end)
-- One flat table: Redis 6 sends each nested one by a system call of its own.
local reply = { now, #away }
for _, name in ipairs(away) do reply[#reply + 1] = name end
for _, value in ipairs(special) do reply[#reply + 1] = value end
return reply
