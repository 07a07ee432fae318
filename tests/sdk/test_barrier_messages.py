"""DTM's own tests of messages whose local transaction is in Redis: real server, real client, both protocols."""

import contextlib
import secrets

import pytest
import redis as redis_py

from reefknot import Client
from reefknot.barrier import Barrier
from reefknot.errors import Failure, ServerUnavailable
from reefknot.testing.participant import OK, Participant, Say
from reefknot.testing.server import LocalServer

DOORS = ("http", "grpc")


class Broken(Exception):
    """What the business breaks with."""


class Sender:
    """Money in Redis, the message's target, and the answer to the server's question."""

    def __init__(self, client, server, participant, redis):
        self.client, self.server, self.participant, self.redis = client, server, participant, redis
        self.key = f"account-{secrets.token_hex(4)}"
        redis.set(self.key, 100)
        participant.on("/QueryPrepared", self.asked)
        self.ask = participant.url("/QueryPrepared")
        self.gid = server.new_gid()

    def asked(self, call):
        try:
            Barrier(call.mode, call.gid, call.branch_id, call.op).asked(self.redis)
        except Failure as refusal:
            return Say(409, f"FAILURE {refusal.reason}".encode())
        return OK

    def do(self, work=None, client=None):
        message = (client or self.client).msg(self.gid).send(self.participant.url("/TransIn"), {"amount": 30})
        return message.do_and_submit(self.ask, work or self.pay)

    def pay(self, barrier, amount=-30):
        return barrier.redis_adjust(self.redis, self.key, amount)

    @property
    def balance(self):
        return int(self.redis.get(self.key))

    def state(self):
        """Status and rows of the message, and how often its target was called."""
        self.server.settle()
        rows = "".join(row[0].upper() for row in self.server.branches(self.gid))
        return self.server.status(self.gid), rows, self.participant.called(self.gid).count("/TransIn")


@pytest.fixture(scope="module")
def server():
    with LocalServer("memory://", grpc=True) as server:
        yield server


@pytest.fixture
def sender(request, server, redis):
    address = server.url if request.param == "http" else f"grpc://{server.grpc_address}"
    with (
        Participant() as participant,
        Client(address) as client,
        redis_py.Redis.from_url(redis.url) as own_redis,
    ):
        yield Sender(client, server, participant, own_redis)


def doors(http, grpc):
    """The rows of both protocols: each is the same test."""
    return [
        pytest.param("http", marks=http, id="http"),
        pytest.param("grpc", marks=grpc, id="grpc"),
    ]


@pytest.mark.parametrize(
    "sender",
    doors(pytest.mark.conformance("TestMsgRedisDo"), pytest.mark.conformance("TestMsgGrpcRedisDo")),
    indirect=True,
)
def test_msg_redis_do(sender):
    assert sender.do() is True
    assert (sender.state(), sender.balance) == (("succeed", "S", 1), 70)


@pytest.mark.parametrize(
    "sender",
    doors(pytest.mark.conformance("TestMsgRedisDoBusiFailed"), pytest.mark.conformance("TestMsgGrpcRedisDoBusiFailed")),
    indirect=True,
)
def test_msg_redis_do_busi_failed(sender):
    with pytest.raises(Failure, match="not enough"):
        sender.do(lambda barrier: sender.pay(barrier, -200))
    assert (sender.state(), sender.balance) == (("failed", "P", 0), 100)


@pytest.mark.conformance("TestMsgRedisDoBusiLater")
@pytest.mark.parametrize("sender", DOORS, indirect=True)
def test_msg_redis_do_busi_later(sender):
    """The question is answered first: the money stays, and the message is not sent."""
    with contextlib.suppress(Failure):
        Barrier("msg", sender.gid, "00", "msg").asked(sender.redis)
    with pytest.raises(Failure, match="cannot any more"):
        sender.do()
    assert (sender.state(), sender.balance) == (("failed", "P", 0), 100)


@pytest.mark.parametrize(
    "sender",
    doors(
        pytest.mark.conformance("TestMsgRedisDoPrepareFailed"),
        pytest.mark.conformance("TestMsgGrpcRedisDoPrepareFailed"),
    ),
    indirect=True,
)
def test_msg_redis_do_prepare_failed(request, sender):
    scheme = request.node.callspec.params["sender"]
    with Client(f"{scheme}://127.0.0.1:1") as nobody, pytest.raises(ServerUnavailable):
        sender.do(client=nobody)
    assert sender.balance == 100


@pytest.mark.parametrize(
    "sender",
    doors(
        pytest.mark.conformance("TestMsgRedisDoCommitFailed"),
        pytest.mark.conformance("TestMsgGrpcRedisDoCommitFailed"),
    ),
    indirect=True,
)
def test_msg_redis_do_commit_failed(sender):
    """It breaks before anything changed; the sender's own answer to the question says so."""

    def work(_):
        raise Broken

    with pytest.raises(Broken):
        sender.do(work)
    assert (sender.state(), sender.balance) == (("failed", "P", 0), 100)


@pytest.mark.parametrize(
    "sender",
    doors(
        pytest.mark.conformance("TestMsgRedisDoCommitAfterFailed"),
        pytest.mark.conformance("TestMsgGrpcRedisDoCommitAfterFailed"),
    ),
    indirect=True,
)
def test_msg_redis_do_commit_after_failed(sender):
    """It breaks after the change was made: the error is heard, and the message is sent."""

    def work(barrier):
        sender.pay(barrier)
        raise Broken

    with pytest.raises(Broken):
        sender.do(work)
    assert (sender.state(), sender.balance) == (("succeed", "S", 1), 70)
