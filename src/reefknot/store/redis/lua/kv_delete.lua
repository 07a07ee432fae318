-- ARGV: now, category, key. Returns 1 if there was an entry.
redis.call('ZREM', bucket .. 'ki:' .. ARGV[2], ARGV[3])
return redis.call('HDEL', bucket .. 'k:' .. ARGV[2], ARGV[3])
