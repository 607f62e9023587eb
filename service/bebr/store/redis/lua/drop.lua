-- Removes what a shard has, unless somebody with a higher fencing token has it. Removing what is not there is no error.
--
-- KEYS: info, points, feed, tombstones. ARGV: token.
local fence = redis.call('HGET', info, 'fence')
if fence and tonumber(fence) > tonumber(ARGV[1]) then
  return redis.error_reply('BEBRFENCED ' .. fence)
end
return redis.call('UNLINK', points, feed, tombstones, info)
