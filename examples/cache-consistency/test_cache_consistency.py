import re

import psycopg
from redis import Redis


def test_the_cache_shows_what_the_database_has(finished):
    # The writer that died left a stale price, so that something was there to repair.
    assert re.search(r"the writer died .* database 30  shown 20\n.* s later +database 30  shown 30", finished.output)
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        assert connection.execute("SELECT price FROM price").fetchall() == [(40,)]
        # Three changes committed, each with the row of its message, and nothing else.
        rows = connection.execute("SELECT branch_id, op, reason FROM dtm_barrier.barrier").fetchall()
    assert rows == [("00", "msg", "msg")] * 3
    with Redis.from_url(finished.environment["REDIS_URL"], decode_responses=True) as redis:
        assert redis.hget("lamp", "value") == "40"
