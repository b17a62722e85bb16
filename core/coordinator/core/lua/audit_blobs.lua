-- audit_blobs: prove that each blob belongs to a job that still needs it; remove what does not.
-- call: EVALSHA <sha> 1 coord:{p}: <repair> (<id> <side>)…
-- KEYS[1]: the partition's base; blob, results, dead:index follow from it
-- ARGV[1]: 1 mends
-- ARGV[2..]: per blob request id and side (in, out)
-- returns: findings (kind, request id, blob …), '', how many were looked at
local repair = ARGV[1] == '1'
if repair then even_when_full() end
local findings, looked = {}, 0
local at = 2
while ARGV[at] do
  local id, side = ARGV[at], ARGV[at + 1]
  at = at + 2
  looked = looked + 1
  local blob = base .. 'blob:' .. id .. ':' .. side
  if redis.call('EXISTS', blob) == 1 then
    local record = redis.call('HGET', bucket_of(id), id) or ''
    local needed
    if side == 'in' then
      -- A record that is not final says where its job is.
      needed = string.find(record, '^{"status":"%a+","at":"') and string.find(record, '"input_bytes":', 1, true)
        or redis.call('HEXISTS', base .. 'dead:index', id) == 1
    else
      needed = string.find(record, '"output_bytes":', 1, true)
    end
    if not needed then
      findings[#findings + 1] = 'orphan_blob'
      findings[#findings + 1] = id
      findings[#findings + 1] = 'blob:' .. id .. ':' .. side
      if repair then redis.call('UNLINK', blob) end
    end
  end
end
return { findings, '', looked }
