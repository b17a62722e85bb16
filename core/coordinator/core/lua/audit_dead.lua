-- audit_dead: prove that dead letters and their index agree; mend what does not.
-- call: EVALSHA <sha> 1 coord:{p}: <side> <cursor> <count> <repair>
-- KEYS[1]: the partition's base; dead, dead:index follow from it
-- ARGV[1]: letters | index: which of the two is gone through
-- ARGV[2]: where to go on: '' (letters) or 0 (index) from the start
-- ARGV[3]: about how many to look at
-- ARGV[4]: 1 mends
-- returns: findings (kind, request id, place …), where to go on ('' at the end), how many were looked at
local letters, cursor, count, repair = ARGV[1] == 'letters', ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
if repair then even_when_full() end
local findings, looked = {}, 0

local function say(kind, id, entry)
  looked = looked + 1
  if not kind then return end
  findings[#findings + 1] = kind
  findings[#findings + 1] = id
  findings[#findings + 1] = 'dead ' .. entry
end

local function letter_at(entry, id)
  local found = redis.pcall('XRANGE', base .. 'dead', entry, entry)
  return not found.err and found[1] and fields_of(found[1][2]).id == id
end

if letters then
  local from = '-'
  if cursor ~= '' then from = '(' .. cursor end
  for _, row in ipairs(redis.call('XRANGE', base .. 'dead', from, '+', 'COUNT', count)) do
    local entry, id = row[1], fields_of(row[2]).id
    cursor = entry
    local known = id and redis.call('HGET', base .. 'dead:index', id)
    if known == entry then
      say(nil)
    elseif not id then
      say('malformed_entry', '', entry)
      if repair then redis.call('XDEL', base .. 'dead', entry) end
    elseif known and letter_at(known, id) then
      say('dead_letter_twice', id, entry)
      if repair then redis.call('XDEL', base .. 'dead', entry) end
    else
      say('dead_letter_without_index', id, entry)
      if repair then redis.call('HSET', base .. 'dead:index', id, entry) end
    end
  end
  if looked < count then cursor = '' end
else
  local reply = redis.call('HSCAN', base .. 'dead:index', cursor, 'COUNT', count)
  cursor = reply[1] == '0' and '' or reply[1]
  for i = 1, #reply[2], 2 do
    local id, entry = reply[2][i], reply[2][i + 1]
    if letter_at(entry, id) then
      say(nil)
    else
      say('dead_index_without_letter', id, entry)
      if repair then redis.call('HDEL', base .. 'dead:index', id) end
    end
  end
end
return { findings, cursor, looked }
