-- include: candidates
-- ARGV: now, what, bound, limit, skip. Returns {left, skip, lost, time, id, time, id...} of what "candidates"
-- finds, without taking it. "bound" is relative to now.
local now = clock()
local found, left, skip, lost = candidates(ARGV[2], now, now + tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
local answer = {left, skip, lost}
for _, entry in ipairs(found) do
    answer[#answer + 1] = entry[2]
    answer[#answer + 1] = string.sub(entry[1], 1, 7)
end
return answer
