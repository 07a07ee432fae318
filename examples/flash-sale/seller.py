"""The seller: takes one piece and sends its delivery, both or neither. ``python seller.py PORT DELIVERY_URL``"""

import os
import sys

from flask import Flask, request
from redis import Redis

from reefknot import Client
from reefknot.contrib.flask import asked, install
from reefknot.testing.services import serving

redis = Redis.from_url(os.environ["REDIS_URL"])
tm = Client()  # the server of $DTM_SERVER
port, delivery = int(sys.argv[1]), sys.argv[2]

app = Flask(__name__)
install(app)  # Failure becomes 409: sold out
app.register_blueprint(asked(redis))  # POST /asked: was the piece of this message taken?


@app.post("/buy/<buyer>")
def buy(buyer):
    # A seller that dies in here is asked 2 seconds later, once it is back: the message is sent if the
    # piece was taken, and dropped if it was not.
    msg = tm.msg(timeout=2).send(f"{delivery}/deliver", {"buyer": buyer})
    msg.do_and_submit(f"{request.host_url}asked", lambda barrier: barrier.redis_adjust(redis, "stock", -1))
    return {}


with serving(app, port) as url:
    print(url, flush=True)
    sys.stdin.read()  # ends when whoever started it does
