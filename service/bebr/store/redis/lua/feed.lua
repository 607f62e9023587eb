-- The latest operation of each id, by ascending seq, and what is known of the shard at the same moment.
--
-- KEYS: info, points, feed, tombstones. ARGV: seq after which to begin, most entries to return, token, name of the
-- process.
-- Returns {{last_seq, points, purged_seq, epochs, epoch of the next commit}, {id, value, seq, id, value, seq, ...}}.
local known = redis.call('HMGET', info, 'last_seq', 'points', 'purged_seq', 'epochs', 'epoch')
if not known[1] then
  return redis.error_reply('BEBRNOSHARD no such shard')
end
local entries = redis.call('XRANGE', feed, '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2]) or {} -- for a limit of 0 it says nothing
local result = {}
for from = 1, #entries, CHUNK do
  local ids, seqs = {}, {}
  for position = from, math.min(from + CHUNK - 1, #entries) do
    ids[#ids + 1] = entries[position][2][2]
    seqs[#seqs + 1] = string.match(entries[position][1], '^%d+')
  end
  for place, value in ipairs(redis.call('HMGET', points, unpack(ids))) do
    if value and #value == SEQ_BYTES and not redis.call('ZSCORE', tombstones, ids[place]) then
      value = value .. '\0' -- no delete, but what is left of a point
    end
    result[#result + 1] = ids[place]
    result[#result + 1] = value
    result[#result + 1] = seqs[place]
  end
end
known[4] = known[4] or ''
local name = writer(ARGV[3], ARGV[4])
known[5] = is_epoch_of(name, known[5]) and known[5] or name
return { known, result }
