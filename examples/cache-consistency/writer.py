"""Changes a price, and lets the cache forget it. ``python writer.py SHOP_URL ITEM PRICE [die]``"""

import os
import signal
import sys

import psycopg

from reefknot import Client

shop, item, price, *die = sys.argv[1:]


def change(barrier):
    with psycopg.connect(os.environ["POSTGRES_URL"]) as connection:
        sql = "UPDATE price SET price = %s WHERE item = %s"
        barrier.call(connection, lambda tx: tx.execute(sql, [price, item]))  # commits, with the barrier's row
    if die:
        os.kill(os.getpid(), signal.SIGKILL)  # it is committed, and nobody has told the cache


msg = Client().msg(timeout=1, wait=True).send(f"{shop}/forget", {"item": item})
msg.do_and_submit(f"{shop}/asked", change)
