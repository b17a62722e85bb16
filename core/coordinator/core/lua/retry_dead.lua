-- retry_dead: submit a dead letter again, as a new job; the old job's outcome stays, and says under which id it goes on.
-- call: EVALSHA <sha> 1 coord:{p}: <id> <new_id> <lifetime> <retention>
-- KEYS[1]: the partition's base; dead, dead:index, jobs, results, blob, wake follow from it
-- ARGV[1]: request id of the dead letter
-- ARGV[2]: request id of the new job; its bucket is put right if it is not of this time
-- ARGV[3]: the longest life of a job, ms
-- ARGV[4]: how long an outcome is kept after that, ms
-- returns: the new job's id (of the first call, if there was one), or nil: no such dead letter, or its input is gone
local id, new_id, keep = ARGV[1], ARGV[2], ARGV[3] + ARGV[4]
local p, bucket, random = string.match(new_id, '^(%d+)%-(%d+)%-(.+)$')
local current = math.floor(now / bucket_ms)
if math.abs(bucket - current) > 1 then new_id = p .. '-' .. current .. '-' .. random end
local entry = redis.call('HGET', base .. 'dead:index', id)
local old = redis.call('HGET', bucket_of(id), id)
if not entry then
  -- Done before: the old record says so, or, where that is gone already, the new job's own.
  if old then return string.match(old, '^{"status":"failed","retried_as":"([^"]+)"') or false end
  return redis.call('HEXISTS', bucket_of(new_id), new_id) == 1 and new_id
end
local found = redis.call('XRANGE', base .. 'dead', entry, entry)[1]
if not found then return false end
local job = fields_of(found[2]).job
local head = head_of(job)
local out_of_line = string.find(head, '"input_bytes":', 1, true)
if out_of_line and redis.call('EXISTS', base .. 'blob:' .. id .. ':in') == 0 then return false end
local fresh = string.gsub(string.gsub(head, '^"submitted_at":%d+', '"submitted_at":' .. now), ',"deadline_at":%d+', '')
job = '{' .. fresh .. string.sub(job, #head + 2)
local priority = string.match(fresh, '"priority":"(%a+)"') or 'normal'
enqueue({ id = new_id, attempt = 1, job = job }, priority, 'queued')
if out_of_line then
  redis.call('RENAME', base .. 'blob:' .. id .. ':in', base .. 'blob:' .. new_id .. ':in')
  redis.call('PEXPIRE', base .. 'blob:' .. new_id .. ':in', keep)
end
write_records(function(key)
  return bucket_end(key, keep)
end)
if old then
  put(id, '{"status":"failed","retried_as":"' .. new_id .. '"' .. string.sub(old, #'{"status":"failed"' + 1))
  write_records()
end
redis.call('XDEL', base .. 'dead', entry)
redis.call('HDEL', base .. 'dead:index', id)
return new_id
