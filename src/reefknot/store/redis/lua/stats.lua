-- ARGV: now, member of "live" to go on after, or "-". Returns {where to go on or "", first member or "",
-- parked, due, mode, status, number, mode, status, number...} of a slice of the unfinished, oldest first.
local now, parked, due, counts = clock(), 0, 0, {}
local members = redis.call('ZRANGEBYLEX', bucket .. 'live', ARGV[2], '+', 'LIMIT', 0, 500)
for _, member in ipairs(members) do
    local h = redis.call('HMGET', bucket .. 't:' .. string.sub(member, 14), 'md', 'st', 'pa', 'du', 'lu')
    if h[1] then
        local modes = counts[h[1]] or {}
        counts[h[1]] = modes
        modes[h[2]] = (modes[h[2]] or 0) + 1
        if (h[3] or '') ~= '' then parked = parked + 1 end
        if tonumber(h[4]) <= now and tonumber(h[5]) <= now then due = due + 1 end
    else
        redis.call('ZREM', bucket .. 'live', member)
    end
end
local answer = {#members == 500 and '(' .. members[500] or '', members[1] or '', parked, due}
for mode, statuses in pairs(counts) do
    for status, number in pairs(statuses) do
        answer[#answer + 1] = mode
        answer[#answer + 1] = status
        answer[#answer + 1] = number
    end
end
return answer
