-- ARGV: now, gids... Returns how many exist.
local now, count = clock(), 0
for i = 2, #ARGV do
    local gid = ARGV[i]
    local key = bucket .. 't:' .. gid
    local old = redis.call('HMGET', key, 'k', 'fi')
    if old[1] then
        count = count + 1
        redis.call('HSET', key, 'du', now, 'up', now)
        if old[2] == '0' then
            redis.call('HSET', key, 'pa', '')
            redis.call('ZADD', bucket .. 'due', now, by_time(old[1], gid))
        end
    end
end
return count
