-- Makes a shard without points, unless it is there. Two calls, so that they are a transaction: see lease.lua.
--
-- KEYS: info, points, feed, tombstones.
if redis.call('HEXISTS', info, 'last_seq') == 0 then
  redis.call('HSET', info, 'points', 0, 'purged_seq', 0)
  redis.call('HSET', info, 'last_seq', 0)
end
return 1
