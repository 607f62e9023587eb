-- Removes some of the oldest tombstones.
--
-- KEYS: info, points, feed, tombstones, and the hold of a backup that reads: while it exists nothing is removed. ARGV: highest seq to remove, how many at most.
-- Returns how many were removed.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return redis.error_reply('BEBRNOSHARD no such shard')
end
if redis.call('EXISTS', KEYS[5]) == 1 then
  return 0
end
local found = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local ids, entries, highest = {}, {}, 0
for place = 1, #found, 2 do
  ids[#ids + 1] = found[place]
  highest = tonumber(found[place + 1])
  entries[#entries + 1] = string.format('%d-0', highest)
end
if #ids == 0 then
  return 0
end
redis.call('HDEL', KEYS[2], unpack(ids))
redis.call('XDEL', KEYS[3], unpack(entries))
redis.call('ZREM', KEYS[4], unpack(ids))
local before = tonumber(redis.call('HGET', KEYS[1], 'purged_seq'))
redis.call('HSET', KEYS[1], 'purged_seq', string.format('%d', math.max(before, highest)))
return #ids
