-- include: next_id
-- ARGV: now, category, key, value, expected version, floor, buckets, number. Returns 1 if it was written.
-- An entry is stored as "<version> <id> <created_ms> <updated_ms> <value>".
local entries, key = bucket .. 'k:' .. ARGV[2], ARGV[3]
local old = redis.call('HGET', entries, key)
local version, id, created = '0', '', ''
if old then version, id, created = string.match(old, '^(%d+) (%d+) (%d+) ') end
if version ~= ARGV[5] then return 0 end
local now = string.format('%.0f', clock())
if not old then
    id = string.format('%.0f', next_id(clock(), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])))
    created = now
    redis.call('ZADD', bucket .. 'ki:' .. ARGV[2], 0, key)
end
local head = string.format('%d', version + 1) .. ' ' .. id .. ' ' .. created .. ' ' .. now .. ' '
redis.call('HSET', entries, key, head .. ARGV[4])
return 1
