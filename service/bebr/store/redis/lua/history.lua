-- What a shard knows of its past. Whoever asks with a fencing token has the shard to itself: no commit with a lower one
-- is taken any more.
--
-- KEYS: info. ARGV: token, 0 to leave the shard as it is.
-- Returns {last_seq, epochs}, or nothing where there is no such shard.
local found = redis.call('HMGET', KEYS[1], 'last_seq', 'epochs', 'fence')
if not found[1] then
  return nil
end
if tonumber(ARGV[1]) > tonumber(found[3] or 0) then
  redis.call('HSET', KEYS[1], 'fence', ARGV[1])
end
return { found[1], found[2] or '' }
