-- Removes some of the oldest tombstones.
--
-- KEYS: info, points, feed, tombstones, and the hold of a backup that reads: while it exists nothing is removed.
-- ARGV: highest seq to remove, how many at most, fencing token.
-- Returns how many were removed.
--
-- As in commit.lua, the first and the last call count; and that deletes are forgotten is said before they are.
local counters = redis.call('HMGET', info, 'last_seq', 'purged_seq', 'begun', 'ended', 'fence')
if not counters[1] then
  return redis.error_reply('BEBRNOSHARD no such shard')
end
if tonumber(counters[5] or 0) > tonumber(ARGV[3]) then
  return redis.error_reply('BEBRFENCED ' .. counters[5])
end
if counters[3] ~= counters[4] or redis.call('EXISTS', KEYS[5]) == 1 then
  return 0
end
local found = redis.call('ZRANGEBYSCORE', tombstones, '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local ids, entries, highest = {}, {}, 0
for place = 1, #found, 2 do
  ids[#ids + 1] = found[place]
  highest = tonumber(found[place + 1])
  entries[#entries + 1] = string.format('%d-0', highest)
end
if #ids == 0 then
  return 0
end
redis.call('HINCRBY', info, 'begun', 1)
redis.call('HSET', info, 'purged_seq', string.format('%d', math.max(tonumber(counters[2]), highest)))
redis.call('HDEL', points, unpack(ids))
redis.call('XDEL', feed, unpack(entries))
redis.call('ZREM', tombstones, unpack(ids))
redis.call('HINCRBY', info, 'ended', 1)
return #ids
