-- rouse: wake every model that has both work and somebody to do it; makes up for a wake that was popped and then lost.
-- call: EVALSHA <sha> 1 coord:{p}:
-- KEYS[1]: the partition's base; models, serving, jobs, wake follow from it
-- returns: how many models were woken
even_when_full()
local woken = 0
for _, model in ipairs(redis.call('HKEYS', base .. 'models')) do
  if redis.call('EXISTS', base .. 'serving:' .. model) == 1 then
    for _, lane in ipairs({ 'retry', 'high', 'normal', 'low' }) do
      if redis.call('XLEN', base .. 'jobs:' .. model .. ':' .. lane) > 0 then
        wake(model)
        woken = woken + 1
        break
      end
    end
  end
end
return woken
