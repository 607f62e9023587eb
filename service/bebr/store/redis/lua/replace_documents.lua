-- Deletes documents of one kind and then stores others, as one change.
--
-- KEYS: the kind's hash. ARGV: number of deletes, their names, then name and JSON text of each document to store.
-- Returns how many were deleted.
local deletes = tonumber(ARGV[1])
local deleted = 0
for place = 2, deletes + 1 do
  deleted = deleted + redis.call('HDEL', KEYS[1], ARGV[place])
end
for place = deletes + 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
end
return deleted
