"""The delivery: one parcel for each message, however often it arrives."""

import os

from flask import Flask, request
from redis import Redis

from reefknot.contrib.flask import branch, install

redis = Redis.from_url(os.environ["REDIS_URL"])
app = Flask(__name__)
install(app)


@app.post("/deliver")
def deliver():
    branch().script(redis, "return redis.call('RPUSH', KEYS[1], ARGV[1])", ["delivered"], [request.json["buyer"]])
    return {}
