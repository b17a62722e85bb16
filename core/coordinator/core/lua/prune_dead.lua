-- prune_dead: remove dead letters that are too old, or the oldest when there are too many.
-- call: EVALSHA <sha> 1 coord:{p}: <retention> <max_dead> <count>
-- KEYS[1]: the partition's base; dead, dead:index, blob follow from it
-- ARGV[1]: how long a dead letter is kept, ms
-- ARGV[2]: how many are kept
-- ARGV[3]: the most to remove
-- returns: how many were removed
local stream = base .. 'dead'
local surplus = redis.call('XLEN', stream) - tonumber(ARGV[2])
local removed = 0
for _, row in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', tonumber(ARGV[3]))) do
  local died = tonumber(string.match(row[1], '^(%d+)'))
  if removed >= surplus and died + ARGV[1] > now then break end
  local id = fields_of(row[2]).id
  redis.call('XDEL', stream, row[1])
  redis.call('HDEL', base .. 'dead:index', id)
  redis.call('UNLINK', base .. 'blob:' .. id .. ':in')
  removed = removed + 1
end
return removed
