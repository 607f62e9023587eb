-- Says something for a while under a name, or takes it back; and what all others say.
--
-- KEYS: what is said (hash name -> when its time is over, in ms since 1970, and the text). ARGV: name ('' to only listen),
-- text ('' to take it back), lifetime in ms.
-- Returns name, text, name, text, ... of all whose time is not over, by the clock of the server.
local said, name, text, lifetime = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if name ~= '' and text == '' then
  redis.call('HDEL', said, name)
elseif name ~= '' then
  redis.call('HSET', said, name, string.format('%.0f ', now + lifetime) .. text)
end
local found, answer = redis.call('HGETALL', said), {}
for place = 1, #found, 2 do
  local ends, rest = string.match(found[place + 1], '^(%d+) (.*)$')
  if ends and tonumber(ends) > now then
    answer[#answer + 1] = found[place]
    answer[#answer + 1] = rest
  elseif name ~= '' then
    redis.call('HDEL', said, found[place])
  end
end
return answer
