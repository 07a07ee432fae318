-- include: candidates
-- ARGV: now, limit, skip, due later than (relative to now). Returns {left, skip, lost, number made due}.
local now = clock()
local found, left, skip, lost = candidates('later', now, now + tonumber(ARGV[4]), tonumber(ARGV[2]), tonumber(ARGV[3]))
for _, entry in ipairs(found) do
    redis.call('HSET', entry[3], 'du', now, 'up', now)
    redis.call('ZADD', bucket .. 'due', now, entry[1])
end
return {left, skip, lost, #found}
