-- ARGV: now, gid, owner, epoch, expected status, status, progress, attempts, reason, parked, new owner,
-- lease_ms, due_in_ms, final, expected version or 0 for any. Returns 1 if the report was applied.
-- Owner and epoch are both compared: after a failover that lost writes, two nodes may have been given
-- the same epoch, but never the same owner.
local gid, status = ARGV[2], ARGV[6]
local key = bucket .. 't:' .. gid
local old = redis.call('HMGET', key, 'ow', 'ep', 'st', 'k', 've')
if old[1] ~= ARGV[3] or old[2] ~= ARGV[4] or old[3] ~= ARGV[5] then return 0 end
if ARGV[15] ~= '0' and old[5] ~= ARGV[15] then return 0 end
local now, k, final = clock(), old[4], ARGV[14] == '1'
local new = {'pr', ARGV[7], 've', old[5] + 1, 'up', now, 'at', ARGV[8], 'pa', ARGV[10], 'ow', ARGV[11],
    'lu', ARGV[11] ~= '' and now + tonumber(ARGV[12]) or 0}
local function set(field, value)
    new[#new + 1] = field
    new[#new + 1] = value
end
if ARGV[9] ~= '' then set('re', ARGV[9]) end
if status ~= ARGV[5] then
    set('st', status)
    set('de', now)
end
local due_in = tonumber(ARGV[13])
if final then
    set('fi', now)
    finish(gid, k, status, now)
elseif due_in >= 0 then
    local due = math.min(now + due_in, NEVER)
    set('du', due)
    redis.call('ZADD', bucket .. 'due', due, by_time(k, gid))
end
redis.call('HSET', key, unpack(new))
return 1
