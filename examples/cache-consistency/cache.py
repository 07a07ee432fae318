"""A cache in Redis that a slow reader cannot fill with what is out of date.

Each key is a hash of a value and a version. Deleting the value raises the version, and a reader may put a
value only if the version is still the one that it saw before it asked the database.
"""

_PUT = """
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'value', ARGV[2])
return 1
"""
_DELETE = """
redis.call('HINCRBY', KEYS[1], 'version', 1)
return redis.call('HDEL', KEYS[1], 'value')
"""


class Cache:
    def __init__(self, redis):
        self.redis = redis

    def get(self, key):
        """The value, or None; and the version to put one with."""
        value, version = self.redis.hmget(key, "value", "version")
        return value, version or "0"

    def put(self, key, value, version):
        """Whether it was put: not if the key was deleted since."""
        return bool(self.redis.eval(_PUT, 1, key, version, value))

    def delete(self, key):
        """May be repeated."""
        self.redis.eval(_DELETE, 1, key)
