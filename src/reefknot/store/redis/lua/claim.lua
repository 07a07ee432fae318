-- include: candidates
-- ARGV: now, limit, skip, owner, lease_ms. Returns {left, skip, lost, now, {due before, abandoned_ms,
-- gid, record}...}.
local now, owner = clock(), ARGV[4]
local until_ms = now + tonumber(ARGV[5])
local found, left, skip, lost = candidates('claim', now, 0, tonumber(ARGV[2]), tonumber(ARGV[3]))
local answer = {left, skip, lost, now}
for _, entry in ipairs(found) do
    local key, gid = entry[3], gid_of(entry[1])
    local h = entry[4]
    redis.call('HSET', key, 'ow', owner, 'ep', h[4] + 1, 've', h[5] + 1, 'lu', until_ms, 'du', until_ms, 'up', now)
    redis.call('ZADD', bucket .. 'due', until_ms, entry[1])
    answer[#answer + 1] = {entry[2], h[2], gid, load(gid)}
end
return answer
