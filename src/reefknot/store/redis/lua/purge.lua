-- include: candidates
-- ARGV: now, limit, skip, finished before (relative to now). Returns {left, skip, lost, number deleted}.
local now = clock()
local found, left, skip, lost = candidates('purge', now, now + tonumber(ARGV[4]), tonumber(ARGV[2]), tonumber(ARGV[3]))
for _, entry in ipairs(found) do
    local gid = gid_of(entry[1])
    redis.call('ZREM', bucket .. redis.call('HGET', entry[3], 'st'), entry[4][1] .. gid)
    redis.call('ZREM', bucket .. 'fin', entry[1])
    redis.call('UNLINK', entry[3], bucket .. 'b:' .. gid)
end
return {left, skip, lost, #found}
