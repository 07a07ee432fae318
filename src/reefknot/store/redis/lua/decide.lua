-- ARGV: now, gid, status, reason, result, body, request hash, owner, lease_ms, due_in_ms, final, mode or empty
-- for any, expected statuses... Returns the record after the change, or nothing.
local gid, status = ARGV[2], ARGV[3]
local key = bucket .. 't:' .. gid
local old = redis.call('HMGET', key, 'st', 'fi', 'k', 'ep', 've', 'md')
if not old[1] or old[2] ~= '0' then return false end
if ARGV[12] ~= '' and ARGV[12] ~= old[6] then return false end
local expected = false
for i = 13, #ARGV do
    expected = expected or ARGV[i] == old[1]
end
if not expected then return false end
local now, k, owner = clock(), old[3], ARGV[8]
local new = {'st', status, 'ep', old[4] + 1, 've', old[5] + 1, 'up', now, 'de', now, 'at', 0, 'pa', '', 'ow', owner,
    'lu', owner ~= '' and now + tonumber(ARGV[9]) or 0}
local function set(field, value)
    new[#new + 1] = field
    new[#new + 1] = value
end
for i, field in ipairs({'re', 'rs', 'bo', 'ha'}) do
    if ARGV[i + 3] ~= '' then set(field, ARGV[i + 3]) end
end
if ARGV[11] == '1' then
    set('fi', now)
    finish(gid, k, status, now)
else
    local due = math.min(now + tonumber(ARGV[10]), NEVER)
    set('du', due)
    redis.call('ZADD', bucket .. 'due', due, by_time(k, gid))
end
redis.call('HSET', key, unpack(new))
return load(gid)
