    -- Added first and taken back: Lua's numbers are not exact beyond 2^53, Redis's are.
    local refusable = ARGV[2] == '1'
    if refusable and redis.call('EXISTS', KEYS[1]) == 0 then
        return redis.error_reply('FAILURE')
    end
    local value = redis.call('INCRBY', KEYS[1], ARGV[1])
    if refusable and value < 0 then
        redis.call('DECRBY', KEYS[1], ARGV[1])
        return redis.error_reply('FAILURE')
    end
