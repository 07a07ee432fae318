"""A hundred pieces in Redis and a crowd, with the seller killed in the middle: none is lost, none sold twice.

Needs: redis
Packages: flask, redis
"""

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import urllib3
from delivery import app, redis
from urllib3.exceptions import NewConnectionError, ProtocolError

from reefknot import Client
from reefknot.testing.services import serving

PIECES, BUYERS = 100, 150
tm = Client()  # the server of $DTM_SERVER


def start_seller(delivery, port=0):
    command = [sys.executable, "seller.py", str(port), delivery]
    seller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return seller, seller.stdout.readline().strip()


def buy(shop, buyer):
    """What the buyer is told; one who reaches nobody tries again."""
    while True:
        try:
            status = urllib3.request("POST", f"{shop}/buy/{buyer}", retries=False).status
        except NewConnectionError:
            time.sleep(0.1)
        except ProtocolError:
            return "cut off"
        else:
            return {200: "bought", 409: "sold out"}[status]


def undecided():
    return tm.query(mode="msg", status="prepared").transactions


def on_the_way():
    return tm.query(mode="msg", status="submitted").transactions


redis.set("stock", PIECES)
redis.delete("delivered")
with serving(app) as delivery, ThreadPoolExecutor(8) as crowd:
    seller, shop = start_seller(delivery)
    answers = crowd.map(lambda buyer: buy(shop, buyer), range(BUYERS))

    while int(redis.get("stock")) > PIECES // 2:
        time.sleep(0.001)
    seller.kill()  # SIGKILL, whatever it is doing
    seller.wait()
    print("seller killed:  ", redis.get("stock").decode(), "pieces left,", len(undecided()), "sales undecided")
    seller, _ = start_seller(delivery, urlsplit(shop).port)

    print("buyers:         ", dict(Counter(answers)))
    while undecided() or on_the_way():
        time.sleep(0.1)  # the server asks the seller about them, and delivers what was sold

stock, delivered = int(redis.get("stock")), redis.lrange("delivered", 0, -1)
print("at the end:     ", stock, "pieces left,", len(delivered), "delivered to", len(set(delivered)), "buyers")
assert stock == 0
assert len(delivered) == len(set(delivered)) == PIECES
