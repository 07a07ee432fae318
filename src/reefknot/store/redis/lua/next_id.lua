-- Part of the scripts that make ids: greater than any of this bucket, than the clock says, and than
-- "floor", the last one that the caller saw. So ids grow in the order of creation as one caller sees
-- it, and no two buckets make the same. They stay below 2^53, what JSON readers keep exact.
local function next_id(now, floor, buckets, number)
    local last = tonumber(redis.call('GET', bucket .. 'seq') or 0)
    local id = math.max(last + 1, (now - 1577836800000) * 32, floor + 1)
    redis.call('SET', bucket .. 'seq', string.format('%.0f', id))
    return id * buckets + number
end
