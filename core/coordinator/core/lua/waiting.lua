-- waiting: which lanes have jobs in them.
-- call: EVALSHA <sha> 1 coord:{p}:
-- KEYS[1]: the partition's base; models, jobs follow from it
-- returns: model, lane, model, lane …
local found = {}
for _, model in ipairs(redis.call('HKEYS', base .. 'models')) do
  for _, lane in ipairs({ 'retry', 'high', 'normal', 'low' }) do
    if redis.call('XLEN', base .. 'jobs:' .. model .. ':' .. lane) > 0 then
      found[#found + 1] = model
      found[#found + 1] = lane
    end
  end
end
return found
