-- audit_stream: prove that each entry of one stream is the place that its job's record names; mend what is not so.
-- call: EVALSHA <sha> 1 coord:{p}: <stream> <cursor> <last> <count> <repair>
-- KEYS[1]: the partition's base; results, jobs, inbox, parked, delayed, blob, waiters follow from it
-- ARGV[1]: the stream, without the base
-- ARGV[2]: where to go on, '' from the start
-- ARGV[3]: where to stop: the time (ms) at which the audit began, or else a stream that grows is never done
-- ARGV[4]: the most entries to look at
-- ARGV[5]: 1 mends
-- returns: findings (kind, request id, place …), where to go on ('' at the end), how many entries were looked at
--
-- Whatever two places claim a job, the one that its record names is right: every step writes both at once.
local stream, cursor, last, count, repair = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
if repair then even_when_full() end
local key = base .. stream
local kind_of_stream = string.match(stream, '^%a+')
local from = '-'
if cursor ~= '' then from = '(' .. cursor end
local findings, finals = {}, {}

local function say(kind, id, entry)
  findings[#findings + 1] = kind
  findings[#findings + 1] = id
  findings[#findings + 1] = stream .. ' ' .. entry
end

local function drop(entry)
  if not repair then return end
  if kind_of_stream == 'inbox' then redis.pcall('XACK', key, 'worker', entry) end
  redis.call('XDEL', key, entry)
  if kind_of_stream == 'parked' then redis.call('ZREM', base .. 'delayed', entry) end
end

local function readable(fields)
  if not (fields.id and fields.attempt and fields.job) then return false end
  if not string.match(fields.id, '^%d+%-%d+%-%w+$') or not tonumber(fields.attempt) then return false end
  if not string.find(fields.job, '^{"submitted_at":%d+,') or not string.find(fields.job, ',"input":', 1, true) then
    return false
  end
  return model_of(head_of(fields.job)) ~= nil
end

local function attempts_before(fields)
  if tonumber(fields.attempt) <= 1 then return '' end
  return '"attempts":' .. (fields.attempt - 1) .. ','
end

-- Let the record say that the job is here.
local function point_here(fields, entry)
  if not repair then return end
  local status = 'assigned'
  if kind_of_stream ~= 'inbox' then status = tonumber(fields.attempt) > 1 and 'retrying' or 'queued' end
  put(fields.id, '{"status":"' .. status .. '","at":"' .. stream .. ' ' .. entry .. '",' .. attempts_before(fields) ..
    head_of(fields.job) .. '}')
  -- At once: another entry of the same job may come next.
  write_records()
end

-- Whether the job may stay where it is.
local function placed(fields, entry)
  local id, bucket = fields.id, bucket_of(fields.id)
  local record = redis.call('HGET', bucket, id)
  if not record or not string.find(record, '^{"status":"%a+",') then
    if redis.call('EXISTS', bucket) == 0 then
      say('entry_without_bucket', id, entry)
      drop(entry)
      return false
    end
    say('entry_without_record', id, entry)
    point_here(fields, entry)
    return true
  end
  local where, which = string.match(record, '^{"status":"%a+","at":"([^ "]+) ([^"]+)"')
  if where == stream and which == entry then return true end
  if not where then
    say('entry_of_finished_job', id, entry)
    drop(entry)
    return false
  end
  local other = redis.pcall('XRANGE', base .. where, which, which)
  if not other.err and other[1] and fields_of(other[1][2]).id == id then
    say('entry_in_two_places', id, entry)
    drop(entry)
    return false
  end
  say('record_elsewhere', id, entry)
  point_here(fields, entry)
  return true
end

local rows = redis.pcall('XRANGE', key, from, last, 'COUNT', count)
if rows.err then rows = {} end
for _, row in ipairs(rows) do
  local entry, fields = row[1], fields_of(row[2])
  cursor = entry
  if not readable(fields) then
    say('malformed_entry', fields.id or '', entry)
    drop(entry)
  elseif placed(fields, entry) then
    local head = head_of(fields.job)
    if string.find(head, '"input_bytes":', 1, true) and redis.call('EXISTS', base .. 'blob:' .. fields.id .. ':in') == 0 then
      say('input_missing', fields.id, entry)
      drop(entry)
      if repair then
        local record = '{"status":"failed","finished_at":' .. now .. ',' .. attempts_before(fields) ..
          '"error":{"type":"lost","message":"Redis has lost the input of this job."},' .. head .. '}'
        put(fields.id, record)
        finals[#finals + 1] = fields.id
        finals[#finals + 1] = record
      end
    elseif kind_of_stream == 'parked' and not redis.call('ZSCORE', base .. 'delayed', entry) then
      say('parked_without_delay', fields.id, entry)
      if repair then redis.call('ZADD', base .. 'delayed', now, entry) end
    end
  end
end
write_records()
tell(finals)
if #rows < count then cursor = '' end
return { findings, cursor, #rows }
