-- ARGV: now, gid, mode, due_in_ms, then pairs of a branch's name and its content. Returns 0 if there is no
-- such prepared transaction, {1, created_ms} if all were added, {2, contents...} of those asked for if any exists.
-- The content is stored as "<position> <created_ms> <content>".
local gid = ARGV[2]
local key, branches = bucket .. 't:' .. gid, bucket .. 'b:' .. gid
local old = redis.call('HMGET', key, 'md', 'st', 'k', 'du', 'nb')
if old[1] ~= ARGV[3] or old[2] ~= 'prepared' then return 0 end
local found, exists = {2}, false
for i = 5, #ARGV, 2 do
    local row = redis.call('HGET', branches, ARGV[i])
    found[#found + 1] = row
    exists = exists or row
end
if exists then return found end
local now, count = clock(), tonumber(old[5] or 0)
for i = 5, #ARGV, 2 do
    count = count + 1
    redis.call('HSET', branches, ARGV[i], string.format('%d %.0f ', count, now) .. ARGV[i + 1])
end
redis.call('HSET', key, 'up', now)
if count > 0 then redis.call('HSET', key, 'nb', count) end
local due_in = tonumber(ARGV[4])
if due_in >= 0 then
    local due = math.max(tonumber(old[4]), math.min(now + due_in, NEVER))
    redis.call('HSET', key, 'du', due)
    redis.call('ZADD', bucket .. 'due', due, by_time(old[3], gid))
end
return {1, now}
