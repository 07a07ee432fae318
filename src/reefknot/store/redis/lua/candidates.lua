-- Part of the scripts that take the first of an index by time.
--
-- what: "claim" (due, and no live lease), "later" (due later than "bound", not parked), "purge"
-- (finished before "bound"). Passes over "skip" entries, then over those that cannot be taken, and looks at
-- no more than limit + 100, so that a script never blocks the server for long. Returns the entries, what
-- is left (0 nothing, 1 something, 2 not known: go on with the new "skip"), the new "skip", and the gids of
-- entries that had no transaction and were removed: somebody deleted it by hand.
local function candidates(what, now, bound, limit, skip)
    local index, from, to = 'due', '-inf', now
    local text = string.format('(%.0f', bound)
    if what == 'later' then from, to = text, '(9000000000000000' end
    if what == 'purge' then index, to = 'fin', text end
    -- Usually all can be taken; a caller that goes on has met many that cannot.
    local found, lost, seen = {}, {}, limit + (skip == 0 and 10 or 100)
    local entries = redis.call('ZRANGEBYSCORE', bucket .. index, from, to, 'WITHSCORES', 'LIMIT', skip, seen)
    for i = 1, #entries, 2 do
        local member = entries[i]
        local key = bucket .. 't:' .. gid_of(member)
        local h = redis.call('HMGET', key, 'k', 'lu', 'pa', 'ep', 've')
        if not h[1] then
            lost[#lost + 1] = gid_of(member)
            redis.call('ZREM', bucket .. index, member)
        elseif what == 'claim' and tonumber(h[2]) > now or what == 'later' and (h[3] or '') ~= '' then
            skip = skip + 1
        elseif #found == limit then
            return found, 1, skip, lost
        else
            found[#found + 1] = {member, entries[i + 1], key, h}
        end
    end
    return found, #entries == 2 * seen and 2 or 0, skip, lost
end
