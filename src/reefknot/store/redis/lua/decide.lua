-- ARGV: now, gid, status, reason, result, body, request hash, owner, lease_ms, due_in_ms, final, expected
-- statuses... Returns the record after the change, or nothing.
local gid, status = ARGV[2], ARGV[3]
local key = bucket .. 't:' .. gid
local old = redis.call('HMGET', key, 'st', 'fi', 'k', 'ep', 've')
if not old[1] or old[2] then return false end
local expected = false
for i = 12, #ARGV do
    if ARGV[i] == old[1] then expected = true end
end
if not expected then return false end
local now, k = clock(), old[3]
redis.call('HSET', key, 'st', status, 'ep', old[4] + 1, 've', old[5] + 1, 'up', now, 'de', now)
redis.call('HDEL', key, 'at', 'pa', 'ow', 'lu')
if ARGV[4] ~= '' then redis.call('HSET', key, 're', ARGV[4]) end
if ARGV[5] ~= '' then redis.call('HSET', key, 'rs', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', key, 'bo', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', key, 'ha', ARGV[7]) end
if ARGV[11] == '1' then
    redis.call('HSET', key, 'fi', now)
    finish(gid, k, status, now)
else
    if ARGV[8] ~= '' then redis.call('HSET', key, 'ow', ARGV[8], 'lu', now + tonumber(ARGV[9])) end
    local due = math.min(now + tonumber(ARGV[10]), NEVER)
    redis.call('HSET', key, 'du', due)
    redis.call('ZADD', bucket .. 'due', due, by_time(k, gid))
end
return load(gid)
