-- held: which of the entries that a worker works on are not its own any more (cancelled, overdue, taken over).
-- call: EVALSHA <sha> 1 coord:{p}: <worker> <model> <entry>…
-- KEYS[1]: the partition's base; inbox follows from it
-- ARGV[1]: worker
-- ARGV[2]: model
-- ARGV[3..]: inbox entries
-- returns: those that were lost
local inbox = base .. 'inbox:' .. ARGV[1] .. ':' .. ARGV[2]
local lost = {}
for at = 3, #ARGV do
  local pending = redis.pcall('XPENDING', inbox, 'worker', ARGV[at], ARGV[at], 1)
  if pending.err or #pending == 0 then lost[#lost + 1] = ARGV[at] end
end
return lost
