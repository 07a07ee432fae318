-- ARGV: now, owner, member of "live" to go on after, or "-". Returns {where to go on or "", number released}.
local now, count = clock(), 0
local members = redis.call('ZRANGEBYLEX', bucket .. 'live', ARGV[3], '+', 'LIMIT', 0, 500)
for _, member in ipairs(members) do
    local gid = string.sub(member, 14)
    local key = bucket .. 't:' .. gid
    if redis.call('HGET', key, 'ow') == ARGV[2] then
        count = count + 1
        redis.call('HSET', key, 'ow', '', 'lu', 0, 'du', now, 'up', now)
        redis.call('ZADD', bucket .. 'due', now, string.sub(member, 7))
    end
end
return {#members == 500 and '(' .. members[500] or '', count}
