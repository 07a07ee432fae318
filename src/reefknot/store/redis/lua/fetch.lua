-- ARGV: now, status or "", mode or "", gids... Returns {gid, fields...} of those that exist and match.
local answer = {}
for i = 4, #ARGV do
    local key = bucket .. 't:' .. ARGV[i]
    local h = redis.call('HMGET', key, 'st', 'md')
    if h[1] and (ARGV[2] == '' or ARGV[2] == h[1]) and (ARGV[3] == '' or ARGV[3] == h[2]) then
        answer[#answer + 1] = {ARGV[i], redis.call('HGETALL', key)}
    end
end
return answer
