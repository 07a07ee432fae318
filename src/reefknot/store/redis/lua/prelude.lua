-- Put before every script. KEYS[1] is the beginning of all keys of one bucket, "<prefix>{<tag>}:";
-- every key is made from it, so all keys of a script are in one slot of a cluster. It is no key itself.
--
--   t:<gid>    hash, the transaction       b:<gid>    hash, its registered branches
--   due        zset, due_ms > id gid       seq        the last id of this bucket
--   live       zset, created id gid        fin        zset, finished_ms > id gid
--   succeed    zset, created id gid        failed     zset, created id gid
--   k:<category>  hash, key > entry        ki:<category>  zset of the keys, in binary order
--   ping       the time of the last ping
--
-- A transaction is in "due" and "live" while it is unfinished, and then in "fin" and the zset of its
-- status. No key ever gets a time to live.
--
-- Fields of a transaction; one that is missing is empty or 0:
--   k created and id, packed   md mode      st status      bo body       pr progress   ha request hash
--   ow owner   ep epoch        ve version   lu lease end   du due        at attempts   pa parked
--   re reason  rs result       up updated   de decided     fi finished   nb number of branches

local bucket = KEYS[1]
local NEVER = 9000000000000000

-- The server's clock in milliseconds; ARGV[1] is the time that a test set, or empty.
local function clock()
    if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The members of the indexes by due and finishing time are the id and the gid; of the others,
-- the creation time, the id and the gid. "k" holds what stands before the gid.
local function by_time(k, gid) return string.sub(k, 7) .. gid end
local function gid_of(member) return string.sub(member, 8) end

-- Everything about a transaction: its fields and those of its branches.
local function load(gid)
    local fields = redis.call('HGETALL', bucket .. 't:' .. gid)
    for i = 1, #fields, 2 do
        if fields[i] == 'nb' then return {fields, redis.call('HGETALL', bucket .. 'b:' .. gid)} end
    end
    return {fields, {}}
end

-- Moves a transaction from the unfinished to the finished.
local function finish(gid, k, status, now)
    redis.call('ZREM', bucket .. 'due', by_time(k, gid))
    redis.call('ZREM', bucket .. 'live', k .. gid)
    redis.call('ZADD', bucket .. status, 0, k .. gid)
    redis.call('ZADD', bucket .. 'fin', now, by_time(k, gid))
end
