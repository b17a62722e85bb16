-- read: look up records; with a channel, have whoever finishes an unfinished one tell that channel.
-- call: EVALSHA <sha> 1 coord:{p}: <channel> <wait_ms> <id>…
-- KEYS[1]: the partition's base; results, inbox, blob, waiters follow from it
-- ARGV[1]: a pub/sub channel, or '' to just look
-- ARGV[2]: for how many ms the channel stays interested
-- ARGV[3..]: request ids
-- returns: per id the record or nil, 1 if it is being worked on, and the output if that lies out of line. All in one flat
--   table, for Redis 6 sends each nested one by a system call of its own.
local channel, wait = ARGV[1], tonumber(ARGV[2])
if channel ~= '' then even_when_full() end
local rows = {}
local at = 3
while ARGV[at] do
  local id = ARGV[at]
  at = at + 1
  local record = redis.call('HGET', bucket_of(id), id)
  if record then
    local status = string.match(record, '^{"status":"(%a+)"')
    local running, output = 0, false
    if status == 'assigned' then
      local worker, model, entry = string.match(record, '"at":"inbox:([^:]+):([^ ]+) ([^"]+)"')
      local pending = redis.pcall('XPENDING', base .. 'inbox:' .. worker .. ':' .. model, 'worker', entry, entry, 1)
      if not pending.err and #pending > 0 then running = 1 end
    elseif status == 'succeeded' and string.find(record, '"output_bytes":', 1, true) then
      output = redis.call('GET', base .. 'blob:' .. id .. ':out')
    end
    if channel ~= '' and (status == 'queued' or status == 'assigned' or status == 'retrying') then
      local mine = channel .. '@' .. (now + wait)
      local others = redis.call('HGET', base .. 'waiters', id)
      if others then
        for name, expires in string.gmatch(others, '([^,@]+)@(%d+)') do
          if name ~= channel and tonumber(expires) > now then mine = mine .. ',' .. name .. '@' .. expires end
        end
      end
      redis.call('HSET', base .. 'waiters', id, mine)
    end
    rows[#rows + 1] = record
    rows[#rows + 1] = running
    rows[#rows + 1] = output
  else
    for _ = 1, 3 do rows[#rows + 1] = false end
  end
end
return rows
