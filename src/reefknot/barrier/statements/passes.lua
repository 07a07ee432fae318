-- The barrier around a piece of work, in one script.
-- KEYS: the operation's own, then that of the operation it undoes if there is one, then those of the work.
-- ARGV: how many keys are the barrier's, the operation, the word for a blocked origin, seconds to keep, then the work's.
local function work(KEYS, ARGV)
--[[work]]
end

local count, op, blocked, seconds = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local stored = redis.call('GET', KEYS[1])
if stored then
    return {stored == op and 'repeated' or 'too late'}
end
if count == 2 and redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('SET', KEYS[1], op, 'EX', seconds)
    redis.call('SET', KEYS[2], blocked, 'EX', seconds)
    return {'nothing to undo'}
end
local keys, args = {}, {}
for i = count + 1, #KEYS do keys[#keys + 1] = KEYS[i] end
for i = 5, #ARGV do args[#args + 1] = ARGV[i] end
local result = work(keys, args)
if type(result) == 'table' and result.err then
    if string.find(result.err, 'FAILURE', 1, true) then
        return {'refused', result.err}
    end
    return result
end
redis.call('SET', KEYS[1], op, 'EX', seconds)
return {'run', result}
