-- Applies the writes of one commit to one shard: all of them, or none when it returns an error.
--
-- KEYS: info, points, feed, tombstones, then the receipts that the writes refer to.
-- ARGV: lifetime of receipts in ms, fencing token, name of the epoch, lowest seq that the shard may have, number of
--       writes, and for each write:
--       mode ("upsert", "insert_only", "update_only" or "delete"), its receipt's place among KEYS or 0, digest, n,
--       n ids, and unless it deletes, n values (what stands behind the seq in a stored value).
-- Returns for each write {replayed, first_seq, last_seq, flags}, flags being one "1" or "0" per operation.
--
-- A stored value is 6 bytes of seq, big-endian, and the rest as the client packed it; a tombstone is the seq alone.
local info, points, feed, tombstones = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lifetime, token, epoch, floor = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local SEQ_BYTES = 6
local MAX_EPOCHS = 256 -- as in bebr.core.history
local CHUNK = 1000 -- arguments of one call; Lua's stack holds about 8,000

local counters = redis.call('HMGET', info, 'last_seq', 'points', 'epoch', 'fence')
if not counters[1] then
  return redis.error_reply('BEBRNOSHARD no such shard')
end
if tonumber(counters[4] or 0) > tonumber(token) then
  return redis.error_reply('BEBRFENCED ' .. counters[4])
end
if tonumber(counters[1]) < floor then
  return redis.error_reply('BEBRWENTBACK ' .. counters[1])
end
local last_seq, living_points = tonumber(counters[1]), tonumber(counters[2])

-- A key of a foreign type must be found before the first change: Redis does not undo what a script did.
redis.call('HEXISTS', points, '')
redis.call('XLEN', feed)
redis.call('ZCARD', tombstones)

-- First pass: where each write is in ARGV, and which receipts are known.
local writes, digests = {}, {}
local at = 6
for _ = 1, tonumber(ARGV[5]) do
  local write = { mode = ARGV[at], receipt = tonumber(ARGV[at + 1]), digest = ARGV[at + 2], n = tonumber(ARGV[at + 3]) }
  write.ids = at + 3
  write.values = write.ids + write.n
  at = write.ids + write.n + 1
  if write.mode ~= 'delete' then
    at = at + write.n
  end
  if write.receipt > 0 then
    local key = KEYS[write.receipt]
    local stored = redis.call('GET', key)
    local known = digests[key]
    if stored then
      local size = struct.unpack('>I1', stored, 2 * SEQ_BYTES + 1)
      known = string.sub(stored, 2 * SEQ_BYTES + 2, 2 * SEQ_BYTES + 1 + size)
    end
    if known and known ~= write.digest then
      return redis.error_reply('BEBRCONFLICT ' .. write.receipt)
    end
    digests[key] = write.digest
  end
  writes[#writes + 1] = write
end

-- Whether the operation applies, given whether its id is a point now.
local function allowed(mode, living)
  if mode == 'upsert' then
    return true
  end
  if mode == 'insert_only' then
    return not living
  end
  return living
end

local function apply_chunk(write, from, to, flags)
  local old_values = redis.call('HMGET', points, unpack(ARGV, write.ids + from, write.ids + to))
  local changes, stale, buried, revived = {}, {}, {}, {}
  for position = from, to do
    local id = ARGV[write.ids + position]
    local old = old_values[position - from + 1]
    local living = old and #old > SEQ_BYTES
    if allowed(write.mode, living) then
      flags[position] = '1'
      last_seq = last_seq + 1
      local value = struct.pack('>I6', last_seq)
      if old then
        stale[#stale + 1] = string.format('%d-0', struct.unpack('>I6', old))
      end
      if write.mode == 'delete' then
        buried[#buried + 1] = last_seq
        buried[#buried + 1] = id
        living_points = living_points - 1
      else
        value = value .. ARGV[write.values + position]
        if not living then
          living_points = living_points + 1
          if old then
            revived[#revived + 1] = id
          end
        end
      end
      changes[#changes + 1] = id
      changes[#changes + 1] = value
      redis.call('XADD', feed, string.format('%d-0', last_seq), 'i', id)
    else
      flags[position] = '0'
    end
  end
  if #changes > 0 then redis.call('HSET', points, unpack(changes)) end
  if #stale > 0 then redis.call('XDEL', feed, unpack(stale)) end
  if #buried > 0 then redis.call('ZADD', tombstones, unpack(buried)) end
  if #revived > 0 then redis.call('ZREM', tombstones, unpack(revived)) end
end

local function apply(write)
  local first_seq = last_seq + 1
  local flags = {}
  for from = 1, write.n, CHUNK do
    apply_chunk(write, from, math.min(from + CHUNK - 1, write.n), flags)
  end
  return first_seq, last_seq, table.concat(flags)
end

-- Second pass: nothing below can fail.
if counters[3] ~= epoch then
  local epochs = redis.call('HGET', info, 'epochs') or ''
  local kept = {}
  for one in string.gmatch(epochs, '%S+') do
    kept[#kept + 1] = one
  end
  kept[#kept + 1] = counters[1] .. ':' .. epoch
  local first = math.max(1, #kept - MAX_EPOCHS + 1)
  redis.call('HSET', info, 'epoch', epoch, 'epochs', table.concat(kept, ' ', first))
end
local results = {}
for number, write in ipairs(writes) do
  local key = write.receipt > 0 and KEYS[write.receipt]
  local stored = key and redis.call('GET', key)
  if stored then
    local first, last, size = struct.unpack('>I6I6I1', stored)
    results[number] = { 1, first, last, string.sub(stored, 2 * SEQ_BYTES + 2 + size) }
  else
    local first, last, flags = apply(write)
    if key then
      local head = struct.pack('>I6I6I1', first, last, #write.digest)
      redis.call('SET', key, head .. write.digest .. flags, 'PX', lifetime)
    end
    results[number] = { 0, first, last, flags }
  end
end
redis.call('HSET', info, 'last_seq', string.format('%d', last_seq), 'points', string.format('%d', living_points))
return results
