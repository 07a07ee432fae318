-- ARGV: now, layout of the keys, number of buckets. Returns {layout, buckets} as they were first stored.
local key = bucket .. 'meta'
redis.call('HSETNX', key, 'layout', ARGV[2])
redis.call('HSETNX', key, 'buckets', ARGV[3])
return redis.call('HMGET', key, 'layout', 'buckets')
