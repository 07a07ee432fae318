-- ARGV: now, category, key. Returns the entry or nothing.
return redis.call('HGET', bucket .. 'k:' .. ARGV[2], ARGV[3])
