import psycopg


def test_each_subscriber_has_each_message_once(finished):
    assert "while mail is down      {'mail': [1], 'warehouse': [1, 2]}" in finished.output
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        rows = connection.execute("SELECT subscriber, array_agg(id ORDER BY id) FROM inbox GROUP BY 1").fetchall()
        branches = connection.execute(
            "SELECT count(*) FROM dtm_barrier.barrier GROUP BY gid, branch_id ORDER BY gid"
        ).fetchall()
    assert dict(rows) == {"warehouse": [1, 2, 3], "mail": [1, 2]}
    assert branches == [(1,)] * 5
