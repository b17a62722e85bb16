-- complete: write the outcomes of finished jobs, each fenced by its inbox entry.
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <model> <how> (<entry> <id> <tail> [<flags> [<output>]])…
-- KEYS[1]: the partition's base; inbox, results, waiters, blob, starved, wake follow from it
-- ARGV[1]: worker
-- ARGV[2]: model
-- ARGV[3]: letters: f: each job has flags; s: the entries stood side by side when they were read, and are in that order
-- ARGV[4..]: per job inbox entry, request id, rest of the record, [flags (i: input in a blob, o: output goes to one)], [output]
-- returns: per job 1 written, 0 stale (nothing touched), 2 written before by this same call
local worker, model = ARGV[1], ARGV[2]
local flagged = string.find(ARGV[3], 'f', 1, true)
local together = string.find(ARGV[3], 's', 1, true)
local inbox = base .. 'inbox:' .. worker .. ':' .. model
local front = '{"status":"succeeded","finished_at":' .. now .. ',"worker_id":"' .. worker .. '",'
local answers, taken, finals = {}, {}, {}

-- One XACK for all: where it acknowledges every one of them, all were ours.
local entries, count = {}, 0
local at = 4
while ARGV[at] do
  count = count + 1
  entries[count] = ARGV[at]
  at = at + 3
  if flagged then at = at + (string.find(ARGV[at], 'o', 1, true) and 2 or 1) end
end
if count == 0 then return answers end
local all_ours = redis.call('XACK', inbox, 'worker', unpack(entries)) == count

-- Else it does not say which. Whatever takes an entry away from a worker deletes it in the same step, so what is still in
-- the stream and had been delivered was pending until now.
local delivered_ms, delivered_seq
local seen = {}
local function ours(entry)
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

local done = 0
at = 4
for i = 1, count do
  local entry, id, tail = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local flags, output = '', nil
  if flagged then
    flags = ARGV[at]
    at = at + 1
    if string.find(flags, 'o', 1, true) then
      output = ARGV[at]
      at = at + 1
    end
  end
  if all_ours or ours(entry) then
    local record = front .. tail
    put(id, record)
    done = done + 1
    taken[done] = entry
    finals[done * 2 - 1] = id
    finals[done * 2] = record
    if flags ~= '' then
      if string.find(flags, 'i', 1, true) then redis.call('UNLINK', base .. 'blob:' .. id .. ':in') end
      local bucket = bucket_of(id)
      if output and redis.call('EXISTS', bucket) == 1 then
        redis.call('SET', base .. 'blob:' .. id .. ':out', output, 'PX', math.max(1, redis.call('PTTL', bucket)))
      end
    end
    answers[i] = 1
  else
    -- A reply may have got lost: then the record ends in this very tail.
    local record = redis.call('HGET', bucket_of(id), id)
    local mine = record and string.sub(record, -#tail) == tail
      and string.find(record, '"worker_id":"' .. worker .. '"', 1, true)
    answers[i] = mine and 2 or 0
  end
end
if done > 0 then
  -- They may only be cut off at the head if nothing that is still worked on stands among them.
  local alone = false
  if together and all_ours then
    local pending = redis.call('XPENDING', inbox, 'worker')
    alone = pending[1] == 0 or precedes(taken[done], pending[2])
  end
  remove_taken(inbox, taken, alone and head_id(inbox))
  write_records()
  tell(finals)
  if redis.call('SREM', base .. 'starved', model) == 1 then wake(model) end
end
return answers
