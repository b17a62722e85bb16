-- audit_delayed: prove that each delay has its parked entry; take away what has none.
-- call: EVALSHA <sha> 1 coord:{p}: <cursor> <count> <repair>
-- KEYS[1]: the partition's base; delayed, parked follow from it
-- ARGV[1]: where to go on (ZSCAN), 0 from the start
-- ARGV[2]: about how many to look at
-- ARGV[3]: 1 mends
-- returns: findings (kind, '', place …), where to go on ('' at the end), how many were looked at
local cursor, count, repair = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
if repair then even_when_full() end
local findings = {}
local reply = redis.call('ZSCAN', base .. 'delayed', cursor, 'COUNT', count)
for i = 1, #reply[2], 2 do
  local entry = reply[2][i]
  local found = redis.pcall('XRANGE', base .. 'parked', entry, entry)
  if found.err or not found[1] then
    findings[#findings + 1] = 'delay_without_parked'
    findings[#findings + 1] = ''
    findings[#findings + 1] = 'parked ' .. entry
    if repair then redis.call('ZREM', base .. 'delayed', entry) end
  end
end
return { findings, reply[1] == '0' and '' or reply[1], #reply[2] / 2 }
