-- Enters a collection, or removes its entry, unless the last fencing token is higher than the caller's.
--
-- KEYS: the registry. ARGV: token, uid, number of shards, or '' to remove the entry.
-- Returns the number of shards that the collection has.
local last = redis.call('HGET', KEYS[1], 'token')
if last and tonumber(ARGV[1]) > 0 and tonumber(last) > tonumber(ARGV[1]) then
  return redis.error_reply('BEBRFENCED ' .. last)
end
local found = redis.call('HGET', KEYS[1], ARGV[2])
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[2])
elseif not found then
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) -- a transaction: see lease.lua
  found = ARGV[3]
end
return found
