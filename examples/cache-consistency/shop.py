"""The shop: prices in PostgreSQL, read through a cache in Redis."""

import os
from functools import partial

import psycopg
from cache import Cache
from flask import Flask, request
from redis import Redis

from reefknot.contrib.flask import asked, install

connect = partial(psycopg.connect, os.environ["POSTGRES_URL"])
cache = Cache(Redis.from_url(os.environ["REDIS_URL"], decode_responses=True))

app = Flask(__name__)
install(app)
app.register_blueprint(asked(connect))  # POST /asked: was the change of this message committed?


@app.get("/price/<item>")
def price(item):
    value, version = cache.get(item)
    if value is None:
        value = price_in_database(item)
        cache.put(item, value, version)
    return str(value)


@app.post("/forget")
def forget():
    cache.delete(request.json["item"])  # needs no barrier: deleting twice is deleting
    return {}


def price_in_database(item):
    with connect() as connection:
        return connection.execute("SELECT price FROM price WHERE item = %s", [item]).fetchone()[0]
