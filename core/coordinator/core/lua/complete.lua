-- complete: write the outcomes of finished jobs, each fenced by its inbox entry.
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <model> (<entry> <id> <tail> <flags> [<output>])…
-- KEYS[1]: the partition's base; inbox, results, waiters, blob, starved, wake follow from it
-- ARGV[1]: worker
-- ARGV[2]: model
-- ARGV[3..]: per job inbox entry, request id, rest of the record, flags (i: input in a blob, o: output goes to one), [output]
-- returns: per job 1 written, 0 stale (nothing touched), 2 written before by this same call
local worker, model = ARGV[1], ARGV[2]
local inbox = base .. 'inbox:' .. worker .. ':' .. model
local front = '{"status":"succeeded","finished_at":' .. now .. ',"worker_id":"' .. worker .. '",'
local answers, taken, finals = {}, {}, {}

-- One XACK for all: where it acknowledges every one of them, all were ours.
local entries = {}
local at = 3
while ARGV[at] do
  entries[#entries + 1] = ARGV[at]
  at = at + (string.find(ARGV[at + 3], 'o', 1, true) and 5 or 4)
end
if #entries == 0 then return {} end
local all_ours = redis.call('XACK', inbox, 'worker', unpack(entries)) == #entries

-- Else it does not say which. Whatever takes an entry away from a worker deletes it in the same step, so what is still in
-- the stream and had been delivered was pending until now.
local delivered_ms, delivered_seq
local seen = {}
local function ours(entry)
  if all_ours then return true end
  if seen[entry] then return false end
  seen[entry] = true
  if not delivered_ms then
    delivered_ms, delivered_seq = 0, 0
    local groups = redis.pcall('XINFO', 'GROUPS', inbox)
    for _, group in ipairs(groups.err and {} or groups) do
      local fields = fields_of(group)
      if fields.name == 'worker' then
        local ms, seq = string.match(fields['last-delivered-id'], '^(%d+)%-(%d+)$')
        delivered_ms, delivered_seq = tonumber(ms), tonumber(seq)
      end
    end
  end
  local ms, seq = string.match(entry, '^(%d+)%-(%d+)$')
  ms, seq = tonumber(ms), tonumber(seq)
  if ms > delivered_ms or (ms == delivered_ms and seq > delivered_seq) then return false end
  return #redis.call('XRANGE', inbox, entry, entry) == 1
end

at = 3
while ARGV[at] do
  local entry, id, tail, flags = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local output = nil
  if flags ~= '' and string.find(flags, 'o', 1, true) then
    output = ARGV[at]
    at = at + 1
  end
  if ours(entry) then
    local record = front .. tail
    put(id, record)
    taken[#taken + 1] = entry
    finals[#finals + 1] = id
    finals[#finals + 1] = record
    if flags ~= '' then
      if string.find(flags, 'i', 1, true) then redis.call('UNLINK', base .. 'blob:' .. id .. ':in') end
      local bucket = bucket_of(id)
      if output and redis.call('EXISTS', bucket) == 1 then
        redis.call('SET', base .. 'blob:' .. id .. ':out', output, 'PX', math.max(1, redis.call('PTTL', bucket)))
      end
    end
    answers[#answers + 1] = 1
  else
    -- A reply may have got lost: then the record ends in this very tail.
    local record = redis.call('HGET', bucket_of(id), id)
    local mine = record and string.sub(record, -#tail) == tail
      and string.find(record, '"worker_id":"' .. worker .. '"', 1, true)
    answers[#answers + 1] = mine and 2 or 0
  end
end
if #taken > 0 then
  redis.call('XDEL', inbox, unpack(taken))
  write_records()
  tell(finals)
  if redis.call('SREM', base .. 'starved', model) == 1 then wake(model) end
end
return answers
