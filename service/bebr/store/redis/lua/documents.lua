-- Stores and deletes documents of one kind, as one change, unless somebody with a higher fencing token has read or written
-- any of that kind, or one is another than the caller believes.
--
-- KEYS: the kind's hash. ARGV: name of the fence in it, token, name of the revision in it, number of documents to store,
-- the name and JSON text of each, number of documents to compare, the name and text of each ('' for none), then the names
-- of those to delete, none of which is stored.
-- Returns how many were deleted.
--
-- One call makes the whole change, for a part of a transaction may come late (see mend.lua): an empty text is no document,
-- and is removed afterwards. There is always a second call, which makes it a transaction (see lease.lua).
local MOST = 7800 -- arguments of one call
local key, fence_name, token = KEYS[1], ARGV[1], ARGV[2]
local fence = redis.call('HGET', key, fence_name)
if fence and tonumber(fence) > tonumber(token) then
  return redis.error_reply('BEBRFENCED ' .. fence)
end
local expected = 5 + 2 * tonumber(ARGV[4])
local first_delete = expected + 1 + 2 * tonumber(ARGV[expected])
for place = expected + 1, first_delete - 1, 2 do
  if (redis.call('HGET', key, ARGV[place]) or '') ~= ARGV[place + 1] then
    return redis.error_reply('BEBRSTALE ' .. ARGV[place])
  end
end
local changes, deleted = { fence_name, token }, 0
if #ARGV > 5 then
  changes[3], changes[4] = ARGV[3], (redis.call('HGET', key, ARGV[3]) or 0) + 1
end
for place = 5, expected - 1 do
  changes[#changes + 1] = ARGV[place]
end
for place = first_delete, #ARGV do
  deleted = deleted + math.min(1, redis.call('HSTRLEN', key, ARGV[place]))
  changes[#changes + 1] = ARGV[place]
  changes[#changes + 1] = ''
end
for from = 1, #changes, MOST do
  redis.call('HSET', key, unpack(changes, from, math.min(from + MOST - 1, #changes)))
end
for from = first_delete, #ARGV, MOST do
  redis.call('HDEL', key, unpack(ARGV, from, math.min(from + MOST - 1, #ARGV)))
end
redis.call('HSET', key, fence_name, token)
return deleted
