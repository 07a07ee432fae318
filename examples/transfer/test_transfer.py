import psycopg


def test_the_money_is_where_it_must_be(finished):
    assert "nobody cannot be moved by 30" in finished.output
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        assert dict(connection.execute("SELECT name, balance FROM account")) == {"alice": 70, "bob": 130}
        reasons = connection.execute("SELECT branch_id, op, reason FROM dtm_barrier.barrier ORDER BY id").fetchall()
    # Two actions; two more, the second of which was refused and so left nothing; two undos, of which one
    # found nothing to undo: it wrote the action's row.
    assert reasons == [
        ("01", "action", "action"),
        ("02", "action", "action"),
        ("01", "action", "action"),
        ("02", "action", "compensate"),
        ("02", "compensate", "compensate"),
        ("01", "compensate", "compensate"),
    ]
