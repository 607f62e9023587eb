-- Joins a prefix that several services share, stays in it, or leaves it; and says who else is there.
--
-- The lease of the prefix says meanwhile that it is shared, with the fencing token that all members have. It ends with the
-- last member, so that a service that wants the prefix for itself finds either another one's lease or this.
--
-- KEYS: the lease, the members (hash id -> when its time is over, in ms since 1970, and what it says of itself). ARGV: id,
-- what it says of itself ('' to leave), lifetime in ms, the token for a prefix that nobody shares yet, or has shared with
-- a lower one (0: it does not join one that nobody shares), then the ids of members that are dead.
-- Returns {1, token, member, member, ...}, {0, lease, ms that it is valid for} where it is another service's, or {2}
-- where nobody shares it.
local lease, members = KEYS[1], KEYS[2]
local id, said, lifetime, token = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local held = redis.call('GET', lease)
if held and string.sub(held, 1, 7) ~= 'shared ' then
  return { 0, held, redis.call('PTTL', lease) }
end
if held then
  token = string.format('%.0f', math.max(tonumber(string.sub(held, 8)), tonumber(token)))
elseif said ~= '' and token == '0' then
  return { 2 }
end
for place = 5, #ARGV do
  redis.call('HDEL', members, ARGV[place])
end
if said == '' then
  redis.call('HDEL', members, id)
else
  redis.call('HSET', members, id, string.format('%.0f ', now + lifetime) .. said)
end
local found = redis.call('HGETALL', members)
local answer = { 1, token }
for place = 1, #found, 2 do
  local ends, rest = string.match(found[place + 1], '^(%d+) (.*)$')
  if ends and tonumber(ends) > now then
    answer[#answer + 1] = found[place] .. ' ' .. rest
  else
    redis.call('HDEL', members, found[place])
  end
end
if #answer > 2 then
  -- twice, which makes it a transaction: see lease.lua
  redis.call('SET', lease, 'shared ' .. token, 'PX', lifetime)
  redis.call('SET', lease, 'shared ' .. token, 'PX', lifetime)
else
  redis.call('DEL', lease)
end
return answer
