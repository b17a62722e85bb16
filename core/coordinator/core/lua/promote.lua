-- promote: move delayed work that has fallen due to its lane.
-- call: EVALSHA <sha> 1 coord:{p}: <count> <lifetime>
-- KEYS[1]: the partition's base; delayed, parked, jobs, results, waiters, blob, wake follow from it
-- ARGV[1]: the most jobs to move
-- ARGV[2]: the longest life of a job, ms
-- returns: jobs moved, and in how many ms the next falls due (-1: none is delayed)
even_when_full()
local delayed, parked = base .. 'delayed', base .. 'parked'
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
local finals = {}
for _, entry in ipairs(due) do
  local found = redis.call('XRANGE', parked, entry, entry)[1]
  if found then
    local fields = fields_of(found[2])
    if deadline_of(head_of(fields.job), tonumber(fields.attempt), tonumber(ARGV[2])) <= now then
      end_expired(fields, finals)
    else
      enqueue(fields, fields.lane, tonumber(fields.attempt) > 1 and 'retrying' or 'queued')
    end
  end
end
if #due > 0 then
  redis.call('XDEL', parked, unpack(due))
  redis.call('ZREM', delayed, unpack(due))
end
write_records()
tell(finals)
local head = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
return { #due, head[2] and math.max(0, head[2] - now) or -1 }
