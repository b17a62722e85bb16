-- assign: deal waiting jobs of one model round-robin to live workers with room, lane by lane.
-- call: EVALSHA <sha> 1 coord:{p}: <model> <batch> <lifetime> <worker>…
-- KEYS[1]: the partition's base; jobs, inbox, results, serving, workers, cursor, starved, waiters, blob follow from it
-- ARGV[1]: model
-- ARGV[2]: the most jobs to move
-- ARGV[3]: the longest life of a job, ms
-- ARGV[4..]: workers to consider, at most 100
-- returns: jobs moved, jobs expired, more | empty | starved, and how many workers serve the model
local model, batch, lifetime = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
even_when_full()
local lanes = { 'retry', 'high', 'normal', 'low' }
local n = #ARGV - 3
local streams, depths, backlog = {}, {}, 0
for i, lane in ipairs(lanes) do
  streams[i] = base .. 'jobs:' .. model .. ':' .. lane
  depths[i] = redis.call('XLEN', streams[i])
  backlog = backlog + depths[i]
end
local serving = redis.call('HLEN', base .. 'serving:' .. model)
if backlog == 0 then return { 0, 0, 'empty', serving } end

local room, total = {}, 0
local inboxes, fronts = {}, {}
if n > 0 then
  local windows = redis.call('HMGET', base .. 'serving:' .. model, unpack(ARGV, 4))
  local roomy, names = {}, {}
  for i = 1, n do
    room[i] = 0
    if windows[i] then
      local inbox = base .. 'inbox:' .. ARGV[i + 3] .. ':' .. model
      local free = string.match(windows[i], ':(%d+)$') - redis.call('XLEN', inbox)
      if free > 0 then
        inboxes[i], room[i] = inbox, free
        roomy[#roomy + 1] = i
        names[#names + 1] = ARGV[i + 3]
      end
    end
  end
  local leases = #names > 0 and redis.call('ZMSCORE', base .. 'workers', unpack(names)) or {}
  for k, i in ipairs(roomy) do
    if leases[k] and tonumber(leases[k]) > now then
      total = total + room[i]
      fronts[i] = '{"status":"assigned","at":"inbox:' .. ARGV[i + 3] .. ':' .. model .. ' '
    else
      room[i] = 0
    end
  end
end
local want = math.min(batch, total)
if want == 0 then
  redis.call('SADD', base .. 'starved', model)
  return { 0, 0, 'starved', serving }
end

local at = tonumber(redis.call('HGET', base .. 'cursor', model) or 0) % n
local read, moved, finals = 0, 0, {}
for i, lane in ipairs(lanes) do
  if read < want and depths[i] > 0 then
    local head = head_id(streams[i])
    local command = { 'XREADGROUP', 'GROUP', 'dispatchers', 'd', 'COUNT', want - read, 'NOACK', 'STREAMS', streams[i], '>' }
    local reply = redis.pcall(unpack(command))
    if reply and reply.err then
      redis.call('XGROUP', 'CREATE', streams[i], 'dispatchers', '0')
      reply = redis.call(unpack(command))
    end
    local taken = {}
    local rows = reply and reply[1][2] or taken
    for r = 1, #rows do
      local row = rows[r]
      local flat = row[2]
      taken[r] = row[1]
      local id, attempt, job, crashed = flat[2], flat[4], flat[6], nil
      if #flat > 6 then crashed, job = flat[6], flat[8] end
      local known = head_of(job)
      if deadline_of(known, tonumber(attempt), lifetime) <= now then
        end_expired({ id = id, attempt = attempt, job = job }, finals)
      else
        repeat at = at % n + 1 until room[at] > 0
        room[at] = room[at] - 1
        local place
        if crashed then
          place = redis.call('XADD', inboxes[at], '*', 'id', id, 'attempt', attempt, 'crashed', crashed, 'job', job)
        else
          place = redis.call('XADD', inboxes[at], '*', 'id', id, 'attempt', attempt, 'job', job)
        end
        local before = ''
        if attempt ~= '1' then before = '"attempts":' .. (attempt - 1) .. ',' end
        put(id, fronts[at] .. place .. '",' .. before .. known .. '}')
        moved = moved + 1
      end
    end
    if #taken > 0 then remove_taken(streams[i], taken, head) end
    read = read + #taken
  end
end
redis.call('HSET', base .. 'cursor', model, at)
write_records()
tell(finals)
-- Nothing read: somebody else read these entries by hand, and the group will not give them again.
if read >= backlog or read == 0 then return { moved, #finals / 2, 'empty', serving } end
if moved >= total then
  redis.call('SADD', base .. 'starved', model)
  return { moved, #finals / 2, 'starved', serving }
end
return { moved, #finals / 2, 'more', serving }
