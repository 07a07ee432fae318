"""An order through four services, order, stock, coupon and payment: done in all of them or in none.

Needs: postgres
Packages: fastapi, psycopg
"""

from contextlib import ExitStack

import coupons
import orders
import payments
import psycopg
import stock
from service import DATABASE

from reefknot import Client, RolledBack
from reefknot.testing.services import serving

tm = Client()  # the server of $DTM_SERVER


def buy(order):
    with tm.saga(f"order-{order['id']}", wait=True) as saga:  # submitted at the end of the block
        saga.step(f"{urls[orders]}/place", f"{urls[orders]}/cancel", order)
        saga.step(f"{urls[stock]}/take", f"{urls[stock]}/put-back", order)
        saga.step(f"{urls[coupons]}/use", f"{urls[coupons]}/give-back", order)
        saga.step(f"{urls[payments]}/charge", f"{urls[payments]}/refund", order)


def books():
    placed = "SELECT string_agg(id || ' ' || state, ', ' ORDER BY id) FROM orders.placed"
    used = "SELECT string_agg(code || ' by ' || by_order, ', ' ORDER BY code) FROM coupons.used"
    with psycopg.connect(DATABASE) as connection:
        rows = connection.execute(f"SELECT ({placed}), lamps, ({used}), euros FROM stock.shelf, payments.purse")
        return rows.fetchone()


with ExitStack() as running:
    urls = {one: running.enter_context(serving(one.app)) for one in (orders, stock, coupons, payments)}
    for order in (
        {"id": 1, "coupon": "SUMMER", "euros": 30},
        {"id": 2, "coupon": "SUMMER", "euros": 30},  # used already: the third of four steps is refused
        {"id": 3, "coupon": "WINTER", "euros": 90},  # too expensive: the last step is refused
    ):
        try:
            buy(order)
            print("bought      ", books())
        except RolledBack as error:
            print("rolled back ", books(), "\n   ", error.reason)

    assert books() == ("1 placed, 2 cancelled, 3 cancelled", 9, "SUMMER by 1", 70)
