-- What a shard knows of its past. Whoever asks with a fencing token has the shard to itself: no commit with a lower one
-- is taken any more.
--
-- KEYS: info, points, feed, tombstones. ARGV: token, 0 to leave the shard as it is; name of the process.
-- Returns {last_seq, epochs, epoch of the next commit, 1 where the shard is to be mended}, or nothing where there is no such shard.
local found = redis.call('HMGET', info, 'last_seq', 'epochs', 'fence', 'points', 'begun', 'ended', 'epoch')
if not found[1] then
  return nil
end
local held = redis.call('HLEN', points)
local is_torn = found[5] ~= found[6]
  or feed_top() ~= tonumber(found[1])
  or redis.call('XLEN', feed) ~= held
  or tonumber(found[4]) + redis.call('ZCARD', tombstones) ~= held
if tonumber(ARGV[1]) > tonumber(found[3] or 0) then
  redis.call('HSET', info, 'fence', ARGV[1])
end
local name = writer(ARGV[1], ARGV[2])
return { found[1], found[2] or '', is_epoch_of(name, found[7]) and found[7] or name, is_torn and 1 or 0 }
