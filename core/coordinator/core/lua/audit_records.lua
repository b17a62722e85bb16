-- audit_records: prove that the entry which each record of a bucket names is there; mend what is not so.
-- call: EVALSHA <sha> 1 coord:{p}: <bucket> <cursor> <count> <repair> <keep>
-- KEYS[1]: the partition's base; results, jobs, inbox, parked, dead, dead:index, blob, waiters, wake follow from it
-- ARGV[1]: the bucket
-- ARGV[2]: where to go on (HSCAN), 0 from the start
-- ARGV[3]: about how many records to look at
-- ARGV[4]: 1 mends
-- ARGV[5]: how long a record is kept at least, ms, should the bucket have no end yet
-- returns: findings (kind, request id, place …), where to go on ('' at the end), how many records were looked at
--
-- A job whose entry is gone is taken up again if its input lies in a blob. Else nobody has its input any more, and it
-- can only be said: it failed, by the problem `lost`.
local key, cursor, count, repair = base .. 'results:' .. ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
if repair then even_when_full() end
local findings, finals = {}, {}

local function say(kind, id, place)
  findings[#findings + 1] = kind
  findings[#findings + 1] = id
  findings[#findings + 1] = place
end

local function finish(id, record)
  put(id, record)
  finals[#finals + 1] = id
  finals[#finals + 1] = record
end

local function letter_of(id)
  local entry = redis.call('HGET', base .. 'dead:index', id)
  local found = entry and redis.call('XRANGE', base .. 'dead', entry, entry)[1]
  if found then return entry, fields_of(found[2]) end
end

local function mend(id, record)
  local head = string.sub(record, string.find(record, '"submitted_at":', 1, true), -2)
  local attempts = tonumber(string.match(record, '"attempts":(%d+)')) or 0
  local blob = base .. 'blob:' .. id .. ':in'
  local entry, letter = letter_of(id)
  if letter then
    finish(id, '{"status":"failed","finished_at":' .. letter.died_at .. ',"worker_id":"' .. letter.worker ..
      '","attempts":' .. letter.attempts .. ',"dead_letter":"' .. entry .. '","error":' .. letter.error .. ',' .. head .. '}')
  elseif string.find(head, '"input_bytes":', 1, true) and redis.call('EXISTS', blob) == 1 then
    enqueue({ id = id, attempt = attempts + 1, job = '{' .. head .. ',"input":null}' }, 'retry',
      attempts > 0 and 'retrying' or 'queued')
  else
    local before = attempts > 0 and '"attempts":' .. attempts .. ',' or ''
    finish(id, '{"status":"failed","finished_at":' .. now .. ',' .. before ..
      '"error":{"type":"lost","message":"Redis has lost this job: no stream holds it, and its input is gone."},' .. head .. '}')
  end
end

if cursor == '0' and redis.call('PTTL', key) == -1 then
  say('bucket_without_end', '', 'results:' .. ARGV[1])
  if repair then redis.call('PEXPIREAT', key, bucket_end(key, tonumber(ARGV[5]))) end
end
local reply = redis.call('HSCAN', key, cursor, 'COUNT', count)
local rows = reply[2]
for i = 1, #rows, 2 do
  local id, record = rows[i], rows[i + 1]
  local status = string.match(record, '^{"status":"(%a+)"')
  if not status or not string.find(record, '"submitted_at":', 1, true) or not string.match(id, '^%d+%-' .. ARGV[1] .. '%-') then
    say('malformed_record', id, 'results:' .. ARGV[1])
    if repair then redis.call('HDEL', key, id) end
  elseif status == 'queued' or status == 'assigned' or status == 'retrying' then
    local stream, entry = string.match(record, '^{"status":"%a+","at":"([^ "]+) ([^"]+)"')
    local found = stream and redis.pcall('XRANGE', base .. stream, entry, entry)
    if not found or found.err or not found[1] or fields_of(found[1][2]).id ~= id then
      say('record_without_entry', id, stream and stream .. ' ' .. entry or '')
      if repair then mend(id, record) end
    end
  end
end
write_records()
tell(finals)
return { findings, reply[1] == '0' and '' or reply[1], #rows / 2 }
