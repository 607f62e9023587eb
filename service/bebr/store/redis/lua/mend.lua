-- One step of making a shard whole again: the points are true, and everything else is made of them.
--
-- A server that dies while it writes leaves a torn transaction at the end of its append-only file. It cuts off what is
-- torn at its next start, but keeps the whole calls before it, without executing them; at the start after that it
-- executes them with the next transaction. So a part of a commit may come late, under seqs that others have by then,
-- and leave them without a place in the feed.
--
-- Each step may be repeated, and the server may die between any two. From "begin" to "end" no commit is taken. Whatever
-- has no place of its own in the feed gets the next seq; what was corrected ends all that is known of the shard's past,
-- so that every view of it is made anew.
--
-- KEYS: info, points, feed, tombstones. ARGV: fencing token, step, cursor ('0' to begin), about how many to look at, name
-- of a new epoch.
-- Returns {next cursor, '0' where the step is done; how much was corrected so far}.
local token, step, cursor, count, epoch = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local counters = redis.call('HMGET', info, 'last_seq', 'fence', 'begun', 'ended', 'points', 'corrected')
if not counters[1] then
  return redis.error_reply('BEBRNOSHARD no such shard')
end
if tonumber(counters[2] or 0) > tonumber(token) then
  return redis.error_reply('BEBRFENCED ' .. counters[2])
end
local last_seq, corrected = tonumber(counters[1]), 0
local steps = {}

function steps.begin()
  if counters[3] == counters[4] then
    redis.call('HINCRBY', info, 'begun', 1)
  end
  if last_seq < feed_top() then
    last_seq, corrected = feed_top(), 1
  end
  return '0'
end

-- Entries that do not belong to a point or tombstone.
function steps.feed()
  local start = cursor == '0' and '-' or '(' .. cursor
  local entries = redis.call('XRANGE', feed, start, '+', 'COUNT', count)
  if #entries == 0 then
    return '0'
  end
  local ids, wrong = {}, {}
  for place, entry in ipairs(entries) do
    ids[place] = entry[2][2]
  end
  for place, value in ipairs(redis.call('HMGET', points, unpack(ids))) do
    local entry = entries[place][1]
    if not value or #value < SEQ_BYTES or string.format('%d-0', seq_of(value)) ~= entry then
      wrong[#wrong + 1] = entry
    end
  end
  if #wrong > 0 then
    redis.call('XDEL', feed, unpack(wrong))
  end
  corrected = #wrong
  return entries[#entries][1]
end

local function has_entry(seq, id)
  local entry = redis.call('XRANGE', feed, string.format('%d-0', seq), string.format('%d-0', seq))[1]
  return entry ~= nil and entry[2][2] == id
end

-- Points and tombstones without an entry, or without their place among the tombstones.
function steps.points()
  local page = redis.call('HSCAN', points, cursor, 'COUNT', count)
  for place = 1, #page[2], 2 do
    local id, value = page[2][place], page[2][place + 1]
    local score = tonumber(redis.call('ZSCORE', tombstones, id) or 0)
    if #value < SEQ_BYTES or (#value == SEQ_BYTES and score == 0) then
      value = struct.pack('>I6', 0) .. '\0' -- damaged, and to be found so by whoever reads it
    end
    local seq, is_deleted = seq_of(value), is_tombstone(value)
    if seq > last_seq or not has_entry(seq, id) then
      last_seq, seq, corrected = last_seq + 1, last_seq + 1, corrected + 1
      redis.call('HSET', points, id, struct.pack('>I6', seq) .. string.sub(value, SEQ_BYTES + 1))
      redis.call('XADD', feed, string.format('%d-0', seq), 'i', id)
    end
    if is_deleted and score ~= seq then
      redis.call('ZADD', tombstones, seq, id)
      corrected = corrected + 1
    elseif not is_deleted and score ~= 0 then
      redis.call('ZREM', tombstones, id)
      corrected = corrected + 1
    end
  end
  return page[1]
end

-- Places among the tombstones of what is none.
function steps.tombstones()
  local page = redis.call('ZSCAN', tombstones, cursor, 'COUNT', count)
  for place = 1, #page[2], 2 do
    local value = redis.call('HGET', points, page[2][place])
    if not value or not is_tombstone(value) then
      redis.call('ZREM', tombstones, page[2][place])
      corrected = corrected + 1
    end
  end
  return page[1]
end

steps['end'] = function()
  local living = redis.call('HLEN', points) - redis.call('ZCARD', tombstones)
  if tonumber(counters[5]) ~= living then
    corrected = 1
  end
  if corrected + tonumber(counters[6] or 0) > 0 then
    local past = { 'epoch', epoch, 'epochs', '0:' .. epoch, 'points', string.format('%d', living) }
    redis.call('HSET', info, 'corrected', 0, unpack(past))
  end
  -- not simply 0: a torn part of a transaction that comes late shall show after this too
  redis.call('HINCRBY', info, 'ended', tonumber(counters[3]) - tonumber(counters[4] or 0))
  return '0'
end

redis.call('HINCRBY', info, 'begun', 1)
local next_cursor = steps[step]()
if corrected > 0 and step ~= 'end' then
  redis.call('HSET', info, 'last_seq', string.format('%d', last_seq))
  redis.call('HINCRBY', info, 'corrected', corrected)
end
redis.call('HINCRBY', info, 'ended', 1)
return { next_cursor, corrected + tonumber(counters[6] or 0) }
