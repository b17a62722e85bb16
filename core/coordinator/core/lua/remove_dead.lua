-- remove_dead: throw a dead letter away; the job's outcome stays.
-- call: EVALSHA <sha> 1 coord:{p}: <id>
-- KEYS[1]: the partition's base; dead, dead:index, blob follow from it
-- ARGV[1]: request id
-- returns: 1, or 0 when there is no such dead letter
local entry = redis.call('HGET', base .. 'dead:index', ARGV[1])
if not entry then return 0 end
redis.call('XDEL', base .. 'dead', entry)
redis.call('HDEL', base .. 'dead:index', ARGV[1])
redis.call('UNLINK', base .. 'blob:' .. ARGV[1] .. ':in')
return 1
