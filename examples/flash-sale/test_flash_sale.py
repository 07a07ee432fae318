from redis import Redis


def test_every_piece_was_sold_once_and_what_was_sold_was_delivered(finished):
    assert "seller killed" in finished.output
    with Redis.from_url(finished.environment["REDIS_URL"], decode_responses=True) as redis:
        assert redis.get("stock") == "0"
        delivered = redis.lrange("delivered", 0, -1)
        assert len(delivered) == len(set(delivered)) == 100
        # The barrier's keys: the messages whose piece was taken are those that were delivered.
        sold = {key.removesuffix("-00-msg-01") for key in redis.keys("*-00-msg-01") if redis.get(key) == "msg"}
        sent = {key.removesuffix("-01-action-01") for key in redis.keys("*-01-action-01")}
    assert len(sold) == 100
    assert sold == sent
