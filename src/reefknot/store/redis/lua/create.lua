-- include: next_id
-- ARGV: now, gid, mode, status, body, request hash, owner, lease_ms, due_in_ms, final, floor, buckets, number.
-- Returns {0, id, created_ms}, or {1, record} if the gid exists.
local gid, status, owner = ARGV[2], ARGV[4], ARGV[7]
local key = bucket .. 't:' .. gid
if redis.call('EXISTS', key) == 1 then return {1, load(gid)} end
local now = clock()
local id = next_id(now, tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]))
local k = struct.pack('>I6I7', now, id)
local due = math.min(now + tonumber(ARGV[9]), NEVER)
local final = ARGV[10] == '1'
redis.call('HSET', key, 'k', k, 'md', ARGV[3], 'st', status, 'bo', ARGV[5], 'ha', ARGV[6], 'ep', 1, 've', 1,
    'du', due, 'up', now, 'ow', owner, 'lu', owner ~= '' and now + tonumber(ARGV[8]) or 0, 'fi', final and now or 0)
if final then
    redis.call('ZADD', bucket .. status, 0, k .. gid)
    redis.call('ZADD', bucket .. 'fin', now, by_time(k, gid))
else
    redis.call('ZADD', bucket .. 'live', 0, k .. gid)
    redis.call('ZADD', bucket .. 'due', due, by_time(k, gid))
end
return {0, id, now}
