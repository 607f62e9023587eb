-- Removes what a shard has, unless somebody with a higher fencing token has it. Removing what is not there is no error.
--
-- KEYS: info, points, feed, tombstones. ARGV: token.
local fence = redis.pcall('HGET', info, 'fence') -- a key of a foreign type is removed too
if type(fence) == 'string' and (tonumber(fence) or 0) > tonumber(ARGV[1]) then
  return redis.error_reply('BEBRFENCED ' .. fence)
end
return redis.call('UNLINK', points, feed, tombstones, info)
