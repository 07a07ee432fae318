-- ARGV: now, category, lowest, limit. Returns key, entry, key, entry...
local answer = {}
for _, key in ipairs(redis.call('ZRANGEBYLEX', bucket .. 'ki:' .. ARGV[2], ARGV[3], '+', 'LIMIT', 0, ARGV[4])) do
    answer[#answer + 1] = key
    answer[#answer + 1] = redis.call('HGET', bucket .. 'k:' .. ARGV[2], key)
end
return answer
