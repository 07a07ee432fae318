-- Whether a message's local work was done: if it was not by now, its key is taken.
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'NX')
return redis.call('GET', KEYS[1])
