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
