-- ARGV: now, gid, owner, epoch, expected status, status, progress, attempts, reason, parked, new owner,
-- lease_ms, due_in_ms, final. Returns 1 if the report was applied.
-- Owner and epoch are both compared: after a failover that lost writes, two nodes may have been given
-- the same epoch, but never the same owner.
local gid, status = ARGV[2], ARGV[6]
local key = bucket .. 't:' .. gid
local old = redis.call('HMGET', key, 'ow', 'ep', 'st', 'k', 've', 'at', 'pa')
if old[1] ~= ARGV[3] or old[2] ~= ARGV[4] or old[3] ~= ARGV[5] then return 0 end
local now, k = clock(), old[4]
redis.call('HSET', key, 'pr', ARGV[7], 've', old[5] + 1, 'up', now)
if (old[6] or '0') ~= ARGV[8] then redis.call('HSET', key, 'at', ARGV[8]) end
if (old[7] or '') ~= ARGV[10] then redis.call('HSET', key, 'pa', ARGV[10]) end
if ARGV[9] ~= '' then redis.call('HSET', key, 're', ARGV[9]) end
if status ~= ARGV[5] then redis.call('HSET', key, 'st', status, 'de', now) end
if ARGV[14] == '1' then
    redis.call('HSET', key, 'fi', now)
    redis.call('HDEL', key, 'ow', 'lu')
    finish(gid, k, status, now)
    return 1
end
if ARGV[11] ~= '' then
    redis.call('HSET', key, 'lu', now + tonumber(ARGV[12]))
else
    redis.call('HDEL', key, 'ow', 'lu')
end
local due_in = tonumber(ARGV[13])
if due_in >= 0 then
    local due = math.min(now + due_in, NEVER)
    redis.call('HSET', key, 'du', due)
    redis.call('ZADD', bucket .. 'due', due, by_time(k, gid))
end
return 1
