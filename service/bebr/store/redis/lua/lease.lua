-- Takes, renews or releases a lease, provided that it is what the caller believes.
--
-- KEYS: the lease. ARGV: what it must be now ('' for none), what it shall be ('' to release it), its lifetime in ms.
-- Returns {1} or, where it is something else, {0, what it is, ms that it is valid for}.
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then
  return { 0, now, redis.call('PTTL', KEYS[1]) }
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  -- Twice, which makes it a transaction in the server's append-only file. It is the first thing that is written after a
  -- start of the server, which may have left a torn transaction at the end of that file: single calls behind that one
  -- would be cut off together with it at the next start, whole transactions are not.
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return { 1 }
