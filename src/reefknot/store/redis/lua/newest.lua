-- ARGV: now, highest, lowest, limit, indexes... Returns the newest members of each index, each at most limit.
local answer = {}
for i = 5, #ARGV do
    answer[#answer + 1] = redis.call('ZREVRANGEBYLEX', bucket .. ARGV[i], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
end
return answer
