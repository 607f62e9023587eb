-- Stores and deletes documents of one kind, as one change, unless somebody with a higher fencing token has read or written
-- any of that kind.
--
-- KEYS: the kind's hash. ARGV: name of the fence in it, token, number of documents to store, the name and JSON text of
-- each, then the names of those to delete, none of which is stored.
-- Returns how many were deleted.
--
-- The fence is set whether it has that value or not: two calls are a transaction (see lease.lua). What is stored comes
-- before what is deleted, for a part of a transaction may come late (see mend.lua).
local CHUNK = 1000
local fence = redis.call('HGET', KEYS[1], ARGV[1])
if fence and tonumber(fence) > tonumber(ARGV[2]) then
  return redis.error_reply('BEBRFENCED ' .. fence)
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local first_put, first_delete = 4, 4 + 2 * tonumber(ARGV[3])
for from = first_put, first_delete - 1, CHUNK do
  redis.call('HSET', KEYS[1], unpack(ARGV, from, math.min(from + CHUNK, first_delete) - 1))
end
local deleted = 0
for from = first_delete, #ARGV, CHUNK do
  deleted = deleted + redis.call('HDEL', KEYS[1], unpack(ARGV, from, math.min(from + CHUNK - 1, #ARGV)))
end
return deleted
