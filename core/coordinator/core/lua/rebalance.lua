-- rebalance: move unread work from inboxes of busy workers to workers with a free slot.
-- call: EVALSHA <sha> 1 coord:{p}: <model> <count> <stuck_after> <worker>…
-- KEYS[1]: the partition's base; inbox, serving, workers, results, starved, wake follow from it
-- ARGV[1]: model
-- ARGV[2]: the most jobs to move
-- ARGV[3]: a worker with free slots that has not read an entry for so long (ms) is stuck, and loses what it has not read
-- ARGV[4..]: workers to consider, at most 100
-- returns: jobs moved; jobs outstanding at these workers
even_when_full()
local model, count, stuck_after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local n = #ARGV - 3
if n == 0 then return { 0, 0 } end
local offers = redis.call('HMGET', base .. 'serving:' .. model, unpack(ARGV, 4))
local leases = redis.call('ZMSCORE', base .. 'workers', unpack(ARGV, 4))
local free, total_free, busy, unread, outstanding = {}, 0, {}, {}, 0
for i = 1, n do
  if offers[i] and leases[i] and tonumber(leases[i]) > now then
    local capacity = tonumber(string.match(offers[i], '^(%d+)'))
    local inbox = base .. 'inbox:' .. ARGV[i + 3] .. ':' .. model
    local held = redis.call('XLEN', inbox)
    outstanding = outstanding + held
    if held > capacity then
      busy[#busy + 1] = { inbox, held - capacity }
    elseif held > 0 then
      local pending = redis.pcall('XPENDING', inbox, 'worker')
      local some = pending.err and 0 or held - pending[1]
      if some > 0 then
        unread[#unread + 1] = { inbox, some }
      elseif held < capacity then
        free[#free + 1] = { ARGV[i + 3], capacity - held }
        total_free = total_free + capacity - held
      end
    else
      free[#free + 1] = { ARGV[i + 3], capacity }
      total_free = total_free + capacity
    end
  end
end
-- At a hundred full workers the rest would cost more than all that comes before, every time, and move nothing.
if total_free == 0 then return { 0, outstanding } end
for _, from in ipairs(unread) do
  local newest = redis.call('XREVRANGE', from[1], '+', '-', 'COUNT', 1)[1][1]
  if now - string.match(newest, '^(%d+)') > stuck_after then busy[#busy + 1] = from end
end
local moved, at = 0, 1
for _, from in ipairs(busy) do
  local inbox, some = from[1], math.min(from[2], total_free, count - moved)
  if some > 0 then
    -- Unread entries are the newest ones, for an inbox is read in its order.
    for _, row in ipairs(redis.call('XREVRANGE', inbox, '+', '-', 'COUNT', some)) do
      -- An entry that was delivered after all belongs to its worker.
      local pending = redis.call('XPENDING', inbox, 'worker', row[1], row[1], 1)
      if #pending == 0 then
        while free[at][2] == 0 do at = at + 1 end
        local fields = fields_of(row[2])
        local stream = 'inbox:' .. free[at][1] .. ':' .. model
        local entry
        if fields.crashed then
          entry = redis.call('XADD', base .. stream, '*', 'id', fields.id, 'attempt', fields.attempt,
            'crashed', fields.crashed, 'job', fields.job)
        else
          entry = redis.call('XADD', base .. stream, '*', 'id', fields.id, 'attempt', fields.attempt, 'job', fields.job)
        end
        redis.call('XDEL', inbox, row[1])
        local before = ''
        if tonumber(fields.attempt) > 1 then before = '"attempts":' .. (fields.attempt - 1) .. ',' end
        put(fields.id, '{"status":"assigned","at":"' .. stream .. ' ' .. entry .. '",' .. before .. head_of(fields.job) .. '}')
        free[at][2] = free[at][2] - 1
        total_free = total_free - 1
        moved = moved + 1
      end
    end
  end
end
write_records()
if moved > 0 and redis.call('SREM', base .. 'starved', model) == 1 then wake(model) end
return { moved, outstanding }
