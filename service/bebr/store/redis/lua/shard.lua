-- What several scripts need of a shard. It stands before each of them, whose KEYS begin with info, points, feed, tombstones.
local info, points, feed, tombstones = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local SEQ_BYTES = 6
local CHUNK = 1000 -- arguments of one call; Lua's stack holds about 8,000

-- A tombstone is a seq and its checksum (4 bytes); those of older releases have none.
local function is_tombstone(value)
  return #value == SEQ_BYTES + 4 or #value == SEQ_BYTES
end

local function seq_of(value)
  return (struct.unpack('>I6', value))
end

-- Names who writes to the shard: one server for as long as it is the master, and one fencing token. The server's id of
-- its replication is another one after each start and each failover. otherwise: used where it does not say. Also returns
-- how many replicas the server has.
local function writer(token, otherwise)
  local said = redis.pcall('INFO', 'replication')
  local id = type(said) == 'string' and string.match(said, 'master_replid:(%w+)')
  local replicas = type(said) == 'string' and string.match(said, 'connected_slaves:(%d+)') or 0
  return (id and string.sub(id, 1, 16) or otherwise) .. '.' .. token, tonumber(replicas)
end

-- Whether an epoch is one of this writer, which names each that begins after a loss by one more part.
local function is_epoch_of(name, epoch)
  return epoch and string.sub(epoch .. '.', 1, #name + 1) == name .. '.'
end

-- The seq that was added to the feed last, whether it is still there or not.
local function feed_top()
  if redis.call('EXISTS', feed) == 0 then
    return 0
  end
  local said = redis.call('XINFO', 'STREAM', feed)
  for place = 1, #said, 2 do
    if said[place] == 'last-generated-id' then
      return tonumber(string.match(said[place + 1], '^%d+'))
    end
  end
end
