-- ARGV: now, owner, lease_ms, then pairs of gid and epoch. Returns the gids still held.
local until_ms, held = clock() + tonumber(ARGV[3]), {}
local now = until_ms - tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
    local gid = ARGV[i]
    local key = bucket .. 't:' .. gid
    local old = redis.call('HMGET', key, 'ow', 'ep', 'k')
    if old[1] == ARGV[2] and old[2] == ARGV[i + 1] then
        redis.call('HSET', key, 'lu', until_ms, 'du', until_ms, 'up', now)
        redis.call('ZADD', bucket .. 'due', until_ms, by_time(old[3], gid))
        held[#held + 1] = gid
    end
end
return held
