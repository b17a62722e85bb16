-- cancel: end a job wherever it is; a worker that runs it finds out that it lost it.
-- call: EVALSHA <sha> 1 coord:{p}: <id>
-- KEYS[1]: the partition's base; results, jobs, inbox, parked, delayed, waiters, blob, starved, wake follow from it
-- ARGV[1]: request id
-- returns: cancelled (now, or by an earlier call) | final (it has another outcome) | unknown; and the status that it had
even_when_full()
local id = ARGV[1]
local record = redis.call('HGET', bucket_of(id), id)
if not record then return { 'unknown', '' } end
local status = string.match(record, '^{"status":"(%a+)"')
if status == 'cancelled' then return { 'cancelled', status } end
local stream, entry = string.match(record, '^{"status":"%a+","at":"([^ "]+) ([^"]+)"')
if not stream then return { 'final', status } end
local found = redis.call('XRANGE', base .. stream, entry, entry)[1]
local attempts = found and tonumber(fields_of(found[2]).attempt) - 1 or 0
local worker, model = string.match(stream, '^inbox:([^:]+):(.+)$')
if worker then
  -- Whoever runs it has lost the entry, and with it the right to say how it ended.
  if redis.call('XACK', base .. stream, 'worker', entry) == 1 then
    attempts = attempts + 1
    status = 'running'
  end
elseif stream == 'parked' then
  redis.call('ZREM', base .. 'delayed', entry)
end
redis.call('XDEL', base .. stream, entry)
local head = string.sub(record, string.find(record, '"submitted_at":', 1, true), -2)
local who = worker and '"worker_id":"' .. worker .. '",' or ''
local before = attempts > 0 and '"attempts":' .. attempts .. ',' or ''
local final = '{"status":"cancelled","finished_at":' .. now .. ',' .. who .. before .. head .. '}'
put(id, final)
write_records()
tell({ id, final })
if string.find(head, '"input_bytes":', 1, true) then redis.call('UNLINK', base .. 'blob:' .. id .. ':in') end
if model and redis.call('SREM', base .. 'starved', model) == 1 then wake(model) end
return { 'cancelled', status }
