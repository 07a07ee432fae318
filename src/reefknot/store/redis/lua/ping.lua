-- ARGV: now. Writes, so that a server that refuses writes is noticed. Returns the time.
local now = clock()
redis.call('SET', bucket .. 'ping', now)
return now
