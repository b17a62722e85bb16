-- expire: end the jobs of a lane whose deadline passed before they were started.
-- call: EVALSHA <sha> 1 coord:{p}: <model> <lane> <cursor> <count> <lifetime>
-- KEYS[1]: the partition's base; jobs, results, waiters, blob follow from it
-- ARGV[1]: model
-- ARGV[2]: lane
-- ARGV[3]: where to go on, '' from the start
-- ARGV[4]: the most entries to look at
-- ARGV[5]: the longest life of a job, ms
-- returns: jobs expired, where to go on ('' at the end)
even_when_full()
local stream, cursor, count = base .. 'jobs:' .. ARGV[1] .. ':' .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local from = '-'
if cursor ~= '' then from = '(' .. cursor end
local rows = redis.call('XRANGE', stream, from, '+', 'COUNT', count)
local over, finals = {}, {}
for _, row in ipairs(rows) do
  local fields = fields_of(row[2])
  if deadline_of(head_of(fields.job), tonumber(fields.attempt), tonumber(ARGV[5])) <= now then
    over[#over + 1] = row[1]
    end_expired(fields, finals)
  end
  cursor = row[1]
end
if #over > 0 then redis.call('XDEL', stream, unpack(over)) end
write_records()
tell(finals)
if #rows < count then cursor = '' end
return { #over, cursor }
