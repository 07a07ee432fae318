"""The barrier in Redis: the same vectors, and what scripts add: checks, expiry, refusals."""

import asyncio
import contextlib
import inspect
import json
import secrets
from datetime import timedelta
from pathlib import Path

import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio

from reefknot.barrier import AsyncBarrier, Barrier, Reason
from reefknot.errors import Failure, Invalid

VECTORS = json.loads((Path(__file__).parent / "barrier_vectors.json").read_text("utf-8"))
#: The work of the vectors: one entry for each effect.
NOTE = "redis.call('RPUSH', KEYS[1], ARGV[1]) return ARGV[1]"
REFUSE = "return redis.error_reply('FAILURE no room')"
BROKEN = "redis.call('INCR', KEYS[1]) error('broken')"


@pytest.fixture
def client(redis):
    with redis_py.Redis.from_url(redis.url) as client:
        yield client


@pytest.fixture(params=["sync", "async", "sync text"])
def face(request, redis):
    """Calls a method of the barrier with a client of its kind: ``face(barrier_identity, 'script', ...)``."""
    options = {"decode_responses": True} if "text" in request.param else {}

    def call(identity, method, *arguments, **keywords):
        if request.param == "async":
            return asyncio.run(call_async(identity, method, *arguments, **keywords))
        barrier = Barrier.from_query(identity)
        with redis_py.Redis.from_url(redis.url, **options) as client:
            result = getattr(barrier, method)(client, *arguments, **keywords)
        return barrier.reason, result

    async def call_async(identity, method, *arguments, **keywords):
        barrier = AsyncBarrier.from_query(identity)
        async with redis_asyncio.Redis.from_url(redis.url) as client:
            result = await getattr(barrier, method)(client, *arguments, **keywords)
        return barrier.reason, result

    return call


def identity(op, gid=None, trans_type="saga", branch_id="01"):
    return {"trans_type": trans_type, "gid": gid or secrets.token_hex(6), "branch_id": branch_id, "op": op}


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(client, vector):
    prefix = secrets.token_hex(4)
    effects = f"effects-{prefix}"
    for step in vector["steps"]:
        query = {name: step[name] for name in ("trans_type", "branch_id", "op")} | {"gid": prefix + step["gid"]}
        barrier = Barrier.from_query(query)
        if step.get("asked"):
            committed = step["expect"] == [Reason.REPEATED]
            assert asked(barrier, client) is committed
        elif step.get("fails"):
            with pytest.raises(Failure, match="no room"):
                barrier.script(client, REFUSE)
        else:
            note = json.dumps([step["gid"], step["branch_id"], step["op"]])
            said = []
            for _ in step["expect"]:
                result = None
                with contextlib.suppress(Failure):  # what a message hears that is too late
                    result = barrier.script(client, NOTE, [effects], [note])
                said.append(barrier.reason)
                assert result == (note.encode() if barrier.reason is Reason.RUN else None)
            assert said == step["expect"]
    done = [json.loads(entry) for entry in client.lrange(effects, 0, -1)]
    assert sorted(done) == sorted(vector["effects"])
    stored = {key.decode(): client.get(key).decode() for key in client.scan_iter(match=f"{prefix}*", count=1000)}
    # A key has room for its operation, or for the word that DTM's clients leave at a blocked origin.
    assert stored == {
        f"{prefix}{gid}-{branch}-{op}-{number}": op if reason == op else "rollback"
        for gid, branch, op, number, reason in vector["rows"]
    }


def asked(barrier, client) -> bool:
    try:
        barrier.asked(client)
    except Failure:
        return False
    return True


def test_a_debit_that_went_through_stays_a_success(face, client):
    """A repetition is noticed before the balance is looked at."""
    key, debit = f"account-{secrets.token_hex(4)}", identity("action")
    client.set(key, 100)
    assert face(debit, "redis_adjust", key, -100) == (Reason.RUN, True)
    assert face(debit, "redis_adjust", key, -100) == (Reason.REPEATED, False)
    assert client.get(key) == b"0"


def test_too_little_is_refused_and_leaves_nothing(face, client):
    key, debit = f"account-{secrets.token_hex(4)}", identity("action")
    client.set(key, 20)
    for amount in (-30, -21):
        with pytest.raises(Failure, match=f"not enough in {key}"):
            face(debit, "redis_adjust", key, amount)
    with pytest.raises(Failure):
        face(debit, "redis_adjust", f"{key}-of-nobody", 5)
    assert client.get(key) == b"20"
    assert list(client.scan_iter(match=f"{debit['gid']}*", count=1000)) == []
    assert face(debit, "redis_adjust", key, -20) == (Reason.RUN, True)


@pytest.mark.parametrize(("op", "undo"), [("action", "compensate"), ("try", "cancel"), ("action", "rollback")])
def test_an_undo_is_never_refused_for_lack_of_money(face, client, op, undo):
    """It would be repeated for ever: what it takes back has been spent meanwhile."""
    key, gid = f"account-{secrets.token_hex(4)}", secrets.token_hex(6)
    client.set(key, 0)
    assert face(identity(op, gid), "redis_adjust", key, 30) == (Reason.RUN, True)
    client.set(key, 5)
    assert face(identity(undo, gid), "redis_adjust", key, -30) == (Reason.RUN, True)
    assert face(identity(undo, gid), "redis_adjust", key, -30) == (Reason.REPEATED, False)
    assert client.get(key) == b"-25"


@pytest.mark.parametrize(("op", "undo"), [("action", "compensate"), ("try", "cancel"), ("action", "rollback")])
def test_an_undo_of_nothing_keeps_the_late_action_out(face, client, op, undo):
    key, gid = f"account-{secrets.token_hex(4)}", secrets.token_hex(6)
    client.set(key, 100)
    assert face(identity(undo, gid), "redis_adjust", key, 30) == (Reason.NOTHING_TO_UNDO, False)
    assert face(identity(op, gid), "redis_adjust", key, -30) == (Reason.TOO_LATE, False)
    assert client.get(key) == b"100"


def test_numbers_beyond_the_exact_ones_of_lua(face, client):
    key = f"account-{secrets.token_hex(4)}"
    client.set(key, 2**60 + 1)
    face(identity("action"), "redis_adjust", key, -(2**60))
    assert client.get(key) == b"1"


def test_calls_are_remembered_as_long_as_asked(face, client):
    key, call = f"account-{secrets.token_hex(4)}", identity("compensate")
    face(call, "redis_adjust", key, 1)
    for op in ("action", "compensate"):
        assert 7 * 86400 - 60 < client.ttl(f"{call['gid']}-01-{op}-01") <= 7 * 86400
    for expire, seconds in ((90, 90), (timedelta(minutes=2), 120)):
        call = identity("confirm")
        face(call, "redis_adjust", key, 1, expire=expire)
        assert seconds - 30 < client.ttl(f"{call['gid']}-01-confirm-01") <= seconds


def test_a_script_that_breaks_may_run_again(face, client):
    key, call = f"stock-{secrets.token_hex(4)}", identity("action")
    with pytest.raises(redis_py.ResponseError, match="broken"):
        face(call, "script", BROKEN, [key])
    assert face(call, "script", "return redis.call('GET', KEYS[1])", [key])[0] is Reason.RUN


def test_a_check_back_blocks_a_late_message(face, client):
    key, message = f"account-{secrets.token_hex(4)}", identity("msg", trans_type="msg", branch_id="00")
    client.set(key, 100)
    with pytest.raises(Failure, match="did not commit"):
        face(message, "asked")
    for method, arguments in (("redis_adjust", (key, -30)), ("script", ("return 1",))):
        with pytest.raises(Failure, match="cannot any more"):
            face(message, method, *arguments)
    committed = identity("msg", trans_type="msg", branch_id="00")
    assert face(committed, "redis_adjust", key, -30) == (Reason.RUN, True)
    assert face(committed, "asked") == (Reason.REPEATED, None)
    assert client.get(key) == b"70"


def test_one_slot_of_a_cluster(redis_cluster):
    from urllib.parse import urlsplit

    place = urlsplit(redis_cluster.url.split(",")[0])
    client = redis_py.RedisCluster(host=place.hostname, port=place.port, password=place.password)
    client.set("{stock}:1", 3)
    call = identity("action")
    barrier = Barrier.from_query(call)
    assert barrier.redis_adjust(client, "{stock}:1", -1, prefix="{stock}")
    assert not Barrier.from_query(call).redis_adjust(client, "{stock}:1", -1, prefix="{stock}")
    assert client.get("{stock}:1") == b"2"
    client.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("key", 1.5), "amount: is 1.5"),
        (("key", True), "amount: is True"),
        (("key", 1, {"expire": 0}), "expire: is 0"),
    ],
)
def test_bad_arguments(client, arguments, words):
    *positional, keywords = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(Invalid, match=words):
        Barrier.from_query(identity("action")).redis_adjust(client, *positional, **keywords)


def test_other_things_than_clients_are_refused(client, redis):
    barrier = Barrier.from_query(identity("action"))
    with pytest.raises(Invalid, match="no pipeline"):
        barrier.redis_adjust(client.pipeline(), "key", 1)
    with pytest.raises(Invalid, match="use AsyncBarrier"):
        barrier.redis_adjust(redis_asyncio.Redis.from_url(redis.url), "key", 1)
    with pytest.raises(Invalid, match="redis_adjust or script"):
        barrier.passes(client)
    with pytest.raises(Invalid, match="leave that line out"):
        barrier.script(client, "#!lua\nreturn 1")
    with pytest.raises(Invalid, match="use Barrier"):
        asyncio.run(AsyncBarrier.from_query(identity("action")).redis_adjust(client, "key", 1))


def test_both_faces_have_the_same_methods():
    for name, method in inspect.getmembers(Barrier, inspect.isfunction):
        twin = getattr(AsyncBarrier, name)
        assert list(inspect.signature(method).parameters) == list(inspect.signature(twin).parameters), name
        doc, twin_doc = inspect.getdoc(method), inspect.getdoc(twin)
        assert (doc or "").replace("is called with", "is awaited with") == (twin_doc or ""), name
