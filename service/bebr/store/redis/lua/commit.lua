-- Applies the writes of one commit to one shard: all of them, or none when it returns an error.
--
-- KEYS: info, points, feed, tombstones, then the receipts that the writes refer to.
-- ARGV: lifetime of receipts in ms, fencing token, name of the process, name of an epoch that is to begin after a loss
--       or '', lowest seq that the shard may have, number of writes, and for each write:
--       mode ("upsert", "insert_only", "update_only" or "delete"), its receipt's place among KEYS or 0, digest, n,
--       n or 0, n ids, n values (what stands behind the seq in a stored value), and as many seqs as that second number
--       says: an operation is for the point that has this seq, 0 for none.
-- Returns {name of the epoch, seq after which this commit began it or -1, number of replicas, results}; a result for each write, which is
-- {replayed, first_seq, last_seq, flags}, flags being one "1" or "0" per operation.
--
-- A stored value is 6 bytes of seq, big-endian, and the rest as the client packed it.
--
-- Redis writes the calls of a script one by one to its append-only file, and may execute a torn part of them later (see
-- mend.lua). So the first and the last call count, and a part that did not end shows; all points but those of a large
-- commit are changed by one call; and everything that follows can be made of the points again.
local lifetime, token, parted, floor = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5])
local MAX_EPOCHS = 256 -- as in bebr.core.history
local MOST_PAIRS = 3900 -- of one call

local counters = redis.call('HMGET', info, 'last_seq', 'points', 'epoch', 'fence', 'begun', 'ended')
if not counters[1] then
  return redis.error_reply('BEBRNOSHARD no such shard')
end
if tonumber(counters[4] or 0) > tonumber(token) then
  return redis.error_reply('BEBRFENCED ' .. counters[4])
end
local last_seq, living_points = tonumber(counters[1]), tonumber(counters[2])
if counters[5] ~= counters[6] or feed_top() > last_seq then
  return redis.error_reply('BEBRTORN to be mended')
end
if last_seq < floor then
  return redis.error_reply('BEBRWENTBACK ' .. counters[1])
end

-- A key of a foreign type must be found before the first change: Redis does not undo what a script did.
redis.call('HEXISTS', points, '')
redis.call('ZCARD', tombstones)

-- First pass: where each write is in ARGV, and which receipts are known.
local writes, digests, receipts = {}, {}, {}
local at = 7
for _ = 1, tonumber(ARGV[6]) do
  local write = { mode = ARGV[at], receipt = tonumber(ARGV[at + 1]), digest = ARGV[at + 2], n = tonumber(ARGV[at + 3]) }
  write.ids = at + 4
  write.values = write.ids + write.n
  write.seqs = ARGV[at + 4] ~= '0' and write.values + write.n
  at = write.values + write.n + tonumber(ARGV[at + 4]) + 1
  if write.receipt > 0 then
    local key = KEYS[write.receipt]
    local stored = redis.call('GET', key)
    local known = digests[key]
    if stored then
      local size = struct.unpack('>I1', stored, 2 * SEQ_BYTES + 1)
      known = string.sub(stored, 2 * SEQ_BYTES + 2, 2 * SEQ_BYTES + 1 + size)
      receipts[key] = stored
    end
    if known and known ~= write.digest then
      return redis.error_reply('BEBRCONFLICT ' .. write.receipt)
    end
    digests[key] = write.digest
  end
  writes[#writes + 1] = write
end

-- Second pass: what each write does.
local of_id, of_seq = {}, {} -- the change of an id, and the one that a seq was given to
local first_of_all = last_seq + 1

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

-- Whether the operation is for what its id is now.
local function is_for(write, position, change)
  local seq = change.living and (change.seq or seq_of(change.old)) or 0
  return not write.seqs or tonumber(ARGV[write.seqs + position]) == seq
end

local function decide_chunk(write, from, to, flags)
  local stored = redis.call('HMGET', points, unpack(ARGV, write.ids + from, write.ids + to))
  for position = from, to do
    local id = ARGV[write.ids + position]
    local change = of_id[id]
    local old = stored[position - from + 1]
    if not change then
      change = { id = id, old = old, living = old and not is_tombstone(old) }
    end
    if allowed(write.mode, change.living) and is_for(write, position, change) then
      flags[position] = '1'
      last_seq = last_seq + 1
      living_points = living_points + (write.mode == 'delete' and 0 or 1) - (change.living and 1 or 0)
      change.living = write.mode ~= 'delete'
      change.seq, change.value = last_seq, ARGV[write.values + position]
      of_id[id], of_seq[last_seq] = change, change
    else
      flags[position] = '0'
    end
  end
end

local function decide(write)
  local first_seq = last_seq + 1
  local flags = {}
  for from = 1, write.n, CHUNK do
    decide_chunk(write, from, math.min(from + CHUNK - 1, write.n), flags)
  end
  return first_seq, last_seq, table.concat(flags)
end

local results, new_receipts = {}, {}
for number, write in ipairs(writes) do
  local key = write.receipt > 0 and KEYS[write.receipt]
  local stored = key and receipts[key]
  if stored then
    local first, last, size = struct.unpack('>I6I6I1', stored)
    results[number] = { 1, first, last, string.sub(stored, 2 * SEQ_BYTES + 2 + size) }
  else
    local first, last, flags = decide(write)
    if key then
      receipts[key] = struct.pack('>I6I6I1', first, last, #write.digest) .. write.digest .. flags
      new_receipts[#new_receipts + 1] = key
    end
    results[number] = { 0, first, last, flags }
  end
end

-- Third pass: the changes. Nothing below can fail.
local function call(name, key, arguments, most)
  for from = 1, #arguments, most do
    redis.call(name, key, unpack(arguments, from, math.min(from + most - 1, #arguments)))
  end
end

redis.call('HINCRBY', info, 'begun', 1)
local epoch, began = counters[3] or '', -1
local name, replicas = writer(token, ARGV[3])
if last_seq >= first_of_all and (parted ~= '' or not is_epoch_of(name, epoch)) then
  epoch, began = parted == '' and name or name .. '.' .. parted, tonumber(counters[1])
  local epochs = redis.call('HGET', info, 'epochs') or ''
  local kept = {}
  for one in string.gmatch(epochs, '%S+') do
    kept[#kept + 1] = one
  end
  kept[#kept + 1] = counters[1] .. ':' .. epoch
  local first = math.max(1, #kept - MAX_EPOCHS + 1)
  redis.call('HSET', info, 'epoch', epoch, 'epochs', table.concat(kept, ' ', first))
end
local values, stale, buried, revived = {}, {}, {}, {}
for seq = first_of_all, last_seq do
  local change = of_seq[seq]
  if change.seq == seq then
    values[#values + 1] = change.id
    values[#values + 1] = struct.pack('>I6', seq) .. change.value
    if change.old then
      stale[#stale + 1] = string.format('%d-0', seq_of(change.old))
    end
    if not change.living then
      buried[#buried + 1] = seq
      buried[#buried + 1] = change.id
    elseif change.old and is_tombstone(change.old) then
      revived[#revived + 1] = change.id
    end
  end
end
call('HSET', points, values, 2 * MOST_PAIRS)
for place = 1, #values, 2 do
  redis.call('XADD', feed, string.format('%d-0', seq_of(values[place + 1])), 'i', values[place])
end
call('XDEL', feed, stale, CHUNK)
call('ZADD', tombstones, buried, CHUNK)
call('ZREM', tombstones, revived, CHUNK)
for _, key in ipairs(new_receipts) do
  redis.call('SET', key, receipts[key], 'PX', lifetime)
end
redis.call('HSET', info, 'last_seq', string.format('%d', last_seq), 'points', string.format('%d', living_points))
redis.call('HINCRBY', info, 'ended', 1)
if last_seq >= first_of_all then
  local prefix, uid, shard = string.match(info, '^{(.*):(%w+):(%d+)}:info$')
  redis.call('PUBLISH', prefix .. ':news', uid .. ' ' .. shard .. ' ' .. string.format('%d', last_seq))
end
return { epoch, began, replicas, results }
