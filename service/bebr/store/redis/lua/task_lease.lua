-- Takes, renews or releases a lease of a task.
--
-- KEYS: the lease, the tokens given so far. ARGV: "take", "renew" or "release", name of the lease, holder, token (of a
-- lease that is to be taken: 0), lifetime in ms.
-- Returns the token of the lease, or 0 where it is somebody else's, or nobody's any more.
--
-- A lease is "<token> <holder>". It is written twice, which makes it a transaction: see lease.lua.
local lease, tokens = KEYS[1], KEYS[2]
local step, name, holder, token, lifetime = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local now = redis.call('GET', lease)
local given, by = nil, nil
if now then
  given, by = string.match(now, '^(%d+) (.*)$')
end
if step == 'take' then
  if now and by ~= holder then
    return 0
  end
  token = now and tonumber(given) or redis.call('HINCRBY', tokens, name, 1)
elseif not now or tonumber(given) ~= token then
  return 0
end
if step == 'release' then
  redis.call('DEL', lease)
else
  local value = string.format('%d ', token) .. (step == 'take' and holder or by)
  redis.call('SET', lease, value, 'PX', lifetime)
  redis.call('SET', lease, value, 'PX', lifetime)
end
return token
