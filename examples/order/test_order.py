import psycopg


def test_one_order_is_complete_and_two_left_nothing_behind(finished):
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:

        def rows(sql):
            return connection.execute(sql).fetchall()

        assert rows("SELECT * FROM orders.placed ORDER BY id") == [(1, "placed"), (2, "cancelled"), (3, "cancelled")]
        assert rows("SELECT lamps FROM stock.shelf") == [(9,)]
        assert rows("SELECT * FROM coupons.used") == [("SUMMER", 1)]
        assert rows("SELECT euros FROM payments.purse") == [(70,)]
        barrier = "SELECT gid, op, reason FROM {}.barrier WHERE gid != 'order-1' ORDER BY id"
        # The stock was taken and put back; the refused coupon had nothing to give back, the payment of
        # order 2 was never asked for.
        assert rows(barrier.format("stock")) == [
            (f"order-{id_}", op, op) for id_ in (2, 3) for op in ("action", "compensate")
        ]
        assert rows(barrier.format("coupons"))[:2] == [
            ("order-2", "action", "compensate"),
            ("order-2", "compensate", "compensate"),
        ]
        assert {gid for gid, _, _ in rows(barrier.format("payments"))} == {"order-3"}
