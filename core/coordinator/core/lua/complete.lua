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
local at = 3
while ARGV[at] do
  local entry, id, tail, flags = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local output = nil
  if flags ~= '' and string.find(flags, 'o', 1, true) then
    output = ARGV[at]
    at = at + 1
  end
  if redis.call('XACK', inbox, 'worker', entry) == 1 then
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
