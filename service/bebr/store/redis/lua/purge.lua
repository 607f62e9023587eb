-- Removes some of the oldest tombstones.
--
-- KEYS: info, points, feed, tombstones, and the hold of a backup that reads: while it exists nothing is removed.
-- ARGV: highest seq to remove, how many at most, fencing token; where several services share the store, also for how many
-- ms deletes are kept, the id of the caller, and the ids of all of them; ~ is before those that have some shards, which
-- count where they have said how far they have this one.
-- Returns how many were removed.
--
-- Where several share it, nothing is removed that the files of one of them may lack: `info` has of each up to where it would
-- remove ("view:<id>"), and how far the shard was at some times ("aged", "<ms>:<seq> ..."), the newest of which that is
-- long enough ago counts.
--
-- As in commit.lua, the first and the last call count; and that deletes are forgotten is said before they are.
local counters = redis.call('HMGET', info, 'last_seq', 'purged_seq', 'begun', 'ended', 'fence')
if not counters[1] then
  return redis.error_reply('BEBRNOSHARD no such shard')
end
if tonumber(counters[5] or 0) > tonumber(ARGV[3]) then
  return redis.error_reply('BEBRFENCED ' .. counters[5])
end
if counters[3] ~= counters[4] or redis.call('EXISTS', KEYS[5]) == 1 then
  return 0
end
local MARKS = 16
local limit = tonumber(ARGV[1])

-- The lowest of what all members have, and of what is old enough.
local function shared_limit(kept_ms, id)
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local marks, newest, aged = {}, -1, 0
  for time, seq in string.gmatch(redis.call('HGET', info, 'aged') or '', '(%d+):(%d+)') do
    time, seq = tonumber(time), tonumber(seq)
    if time + kept_ms <= now then
      marks, aged = {}, seq
    end
    marks[#marks + 1] = string.format('%.0f:%.0f', time, seq)
    newest = time
  end
  if newest + kept_ms / MARKS < now then
    marks[#marks + 1] = string.format('%.0f:%.0f', now, tonumber(counters[1]))
  end
  redis.call('HSET', info, 'aged', table.concat(marks, ' '), 'view:' .. id, string.format('%.0f', limit))
  local is_member, lowest = {}, math.min(limit, aged)
  for place = 6, #ARGV do
    local partial, member = string.match(ARGV[place], '^(~?)(.*)$')
    local seen = redis.call('HGET', info, 'view:' .. member)
    is_member['view:' .. member] = true
    if seen or partial == '' then
      lowest = math.min(lowest, tonumber(seen or 0))
    end
  end
  for _, field in ipairs(redis.call('HKEYS', info)) do
    if string.sub(field, 1, 5) == 'view:' and not is_member[field] then
      redis.call('HDEL', info, field)
    end
  end
  return lowest
end

if ARGV[4] then
  limit = shared_limit(tonumber(ARGV[4]), ARGV[5])
end
local found = redis.call('ZRANGEBYSCORE', tombstones, '-inf', string.format('%.0f', limit), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local ids, entries, highest = {}, {}, 0
for place = 1, #found, 2 do
  ids[#ids + 1] = found[place]
  highest = tonumber(found[place + 1])
  entries[#entries + 1] = string.format('%d-0', highest)
end
if #ids == 0 then
  return 0
end
redis.call('HINCRBY', info, 'begun', 1)
redis.call('HSET', info, 'purged_seq', string.format('%d', math.max(tonumber(counters[2]), highest)))
redis.call('HDEL', points, unpack(ids))
redis.call('XDEL', feed, unpack(entries))
redis.call('ZREM', tombstones, unpack(ids))
redis.call('HINCRBY', info, 'ended', 1)
return #ids
