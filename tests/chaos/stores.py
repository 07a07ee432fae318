"""The stores that nodes share: private servers that can be killed, frozen, and made to hang up."""

import subprocess

from reefknot.testing.databases import mariadb, postgres, redis


class Postgres:
    """PostgreSQL in a time zone that is not a whole number of hours from Greenwich."""

    present = staticmethod(postgres.find_programs)

    def __init__(self):
        self.server = postgres.PostgresServer(settings={"TimeZone": "Asia/Kathmandu"})

    def hang_up(self):
        """Close every connection of a client."""
        sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        program = self.server._programs / "psql"
        url = self.server.url.replace("postgres://", "postgresql://")
        subprocess.run(
            [program, "-q", "-c", f"{sql} AND pid <> pg_backend_pid()", url], check=True, capture_output=True
        )


class MariaDb:
    """MariaDB in a time zone west of Greenwich."""

    present = staticmethod(mariadb.find_programs)

    def __init__(self):
        self.server = mariadb.MariaDbServer(settings={"default_time_zone": "-05:00"})

    def hang_up(self):
        """Close every connection of a client."""
        self.server._run_sql("KILL USER 'reefknot'@'%'")


class Redis:
    """Redis that writes every change to its append-only file before it answers."""

    present = staticmethod(redis.find_program)

    def __init__(self):
        self.server = redis.RedisServer("always")

    @property
    def servers(self):
        return [self.server]

    def hang_up(self):
        """Close every connection of a client."""
        for server in self.servers:
            server.command("CLIENT", "KILL", "TYPE", "normal")

    def index_problems(self):
        """What is wrong between the transactions and their indexes, and keys that would expire."""
        problems = []
        for server in self.servers:
            keys = server.command("KEYS", "*")
            problems += [f"{key!r} would expire" for key in keys if server.command("TTL", key) != -1]
            for due in [key for key in keys if key.endswith(b":due")]:
                bucket = due.removesuffix(b"due")
                tx = [key for key in keys if key.startswith(bucket + b"t:")]
                unfinished = {key[len(bucket) + 2 :] for key in tx if server.command("HGET", key, "fi") in (None, b"0")}
                for name, prefix in (("due", 7), ("live", 13)):
                    indexed = {member[prefix:] for member in server.command("ZRANGE", bucket + name.encode(), 0, -1)}
                    if indexed != unfinished:
                        problems.append(f"{name} and the unfinished differ in {indexed ^ unfinished}")
        return problems


class RedisCluster(Redis):
    """Three masters, the buckets spread over them."""

    def __init__(self):
        self.server = redis.RedisCluster()

    @property
    def servers(self):
        return self.server.servers


STORES = {"postgres": Postgres, "mariadb": MariaDb, "redis": Redis, "redis-cluster": RedisCluster}
