import psycopg


def test_what_was_bought_is_shipped_and_what_was_refused_left_nothing(finished):
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:

        def rows(sql):
            return connection.execute(sql).fetchall()

        assert rows("SELECT number, state FROM shop_order ORDER BY number") == [(1, "shipped"), (2, "cancelled")]
        assert rows("SELECT pieces FROM shop_item") == [(7,)]
        assert rows("SELECT order_id FROM shop_parcel") == [(1,)]
        # The migration made the barrier's table; the message of the order that cannot be shipped left no row
        # of a commit.
        assert rows("SELECT name FROM django_migrations WHERE app = 'reefknot'") == [("0001_barrier",)]
        assert rows("SELECT op, reason FROM dtm_barrier.barrier WHERE trans_type = 'msg' ORDER BY id") == [
            ("msg", "msg"),
            ("action", "action"),
            ("msg", "rollback"),
        ]
