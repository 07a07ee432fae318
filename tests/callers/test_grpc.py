"""gRPC branch calls against a real gRPC service: the request, what each answer comes to, and the channels."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import pytest

from reefknot.callers.base import BranchCall, CallerSettings
from reefknot.callers.grpc import GrpcCaller, channels, service_target
from reefknot.model import Failure, Ongoing, Outcome, Success, Unknown
from reefknot.testing.grpc_participant import ERROR, FAILURE, HANG_UP, ONGOING, GrpcParticipant, Say
from reefknot.wire.proto.workflow_pb2 import WorkflowData

pytestmark = pytest.mark.anyio

OUT = "/bank.Bank/TransOut"
PAYLOAD = b"\x00\xff\x08\x1e not JSON, and no UTF-8 either \xc3"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that the server runs on."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def bank() -> Iterator[GrpcParticipant]:
    with GrpcParticipant() as participant:
        yield participant


@asynccontextmanager
async def grpc_caller(**changes: object) -> AsyncIterator[GrpcCaller]:
    caller = GrpcCaller(CallerSettings(**({"make_id": str, "user_agent": "reefknot/1.2"} | changes)))
    try:
        yield caller
    finally:
        await caller.close()


def branch_call(url: str, **changes: object) -> BranchCall:
    fields = {
        "gid": "g1",
        "mode": "saga",
        "branch_id": "01",
        "op": "action",
        "payload": PAYLOAD,
        "protocol": "grpc",
        "headers": {},
        "timeout_seconds": 5.0,
    }
    return BranchCall(url=url, **(fields | changes))


async def outcome_of(bank: GrpcParticipant, *answers: Say, timeout_seconds: float = 5.0, **settings: object) -> Outcome:
    """What the last of so many calls comes to."""
    bank.script(OUT, answers)
    async with grpc_caller(**settings) as caller:
        for _ in answers:
            outcome = await caller.call(branch_call(bank.url(OUT), timeout_seconds=timeout_seconds))
    return outcome


async def test_the_request_has_the_payload_the_identity_and_the_branch_headers(bank):
    headers = {"Authorization": "Bearer 1", "X-Trace-Bin": "a\u00e9", "x-empty": " "}
    async with grpc_caller() as caller:
        outcome = await caller.call(branch_call(bank.url(OUT), headers=headers, timeout_seconds=7.0))

    assert outcome == Success()
    (call,) = bank.calls
    assert (call.path, call.body) == (OUT, PAYLOAD)
    agent = call.metadata.pop("user-agent")
    assert agent.startswith("reefknot/1.2 ")
    assert call.metadata == {
        "dtm-gid": "g1",
        "dtm-trans_type": "saga",
        "dtm-branch_id": "01",
        "dtm-op": "action",
        "dtm-dtm": "",
        "authorization": "Bearer 1",
        "x-trace-bin": "a\u00e9".encode(),
        "x-empty": "",
    }
    assert 6.0 < call.deadline_seconds <= 7.0


async def test_no_payload_is_an_empty_message(bank):
    async with grpc_caller() as caller:
        assert await caller.call(branch_call(bank.url(OUT), payload=b"")) == Success()
    assert bank.calls[0].body == b""


async def test_a_workflow_is_resumed_with_its_own_message(bank):
    method = "/workflow.Workflow/Execute"
    async with grpc_caller() as caller:
        await caller.call(branch_call(bank.url(method), mode="workflow", branch_id="00", op="transfer"))

    (call,) = bank.calls
    assert WorkflowData.FromString(call.body).Data == PAYLOAD
    assert (call.mode, call.branch_id, call.op) == ("workflow", "00", "transfer")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Say(body=b"FAILURE"), Success()),
        (FAILURE, Failure("reason:refused FAILURE")),
        (Say("ABORTED", "no money FAILURE"), Failure("no money FAILURE")),
        (Say("ABORTED", "余额不足"), Failure("余额不足 FAILURE")),
        (Say("ABORTED", "ONGOING"), Ongoing("ONGOING")),
        (Say("ABORTED", "is ONGOING"), Failure("is ONGOING FAILURE")),
        (ONGOING, Ongoing("not yet")),
        (Say("FAILED_PRECONDITION", "FAILURE"), Ongoing("FAILURE")),
        (ERROR, Unknown("gRPC status UNKNOWN: internal error")),
        (Say("UNKNOWN", "FAILURE"), Unknown("gRPC status UNKNOWN: FAILURE")),
        (Say("UNIMPLEMENTED", "no such method"), Unknown("gRPC status UNIMPLEMENTED: no such method")),
        (Say("CANCELLED", "by myself"), Unknown("gRPC status CANCELLED: by myself")),
        (Say("UNAVAILABLE", "stopping"), Unknown("gRPC status UNAVAILABLE: stopping")),
        (Say("DEADLINE_EXCEEDED", "of mine"), Unknown("gRPC status DEADLINE_EXCEEDED: of mine")),
    ],
    ids=lambda value: f"{value.status} {value.text}" if isinstance(value, Say) else "",
)
async def test_what_an_answer_means(bank, answer, outcome):
    assert await outcome_of(bank, answer) == outcome


async def test_a_long_reason_is_cut_and_stays_a_failure(bank):
    outcome = await outcome_of(bank, Say("ABORTED", "x" * 7_000))

    assert isinstance(outcome, Failure)
    assert len(outcome.reason) == 1024
    assert outcome.reason.endswith("(truncated) FAILURE")


async def test_an_answer_beyond_the_limit_is_unknown(bank):
    limit = 16 * 1024
    assert await outcome_of(bank, Say(body=b"x" * limit), response_limit_bytes=limit) == Success()
    outcome = await outcome_of(bank, Say(body=b"x" * (limit + 1)), response_limit_bytes=limit)

    assert isinstance(outcome, Unknown)
    assert "larger than max" in outcome.error
    assert not outcome.unreachable


async def test_a_participant_that_hangs_costs_the_time_limit(bank):
    began = time.monotonic()
    outcome = await outcome_of(bank, Say(seconds=30), timeout_seconds=0.5)

    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert "DEADLINE_EXCEEDED" in outcome.error
    assert 0.4 < time.monotonic() - began < 3


async def test_a_connection_that_is_cut_is_unknown_and_the_call_is_made_once(bank):
    outcome = await outcome_of(bank, HANG_UP)

    assert isinstance(outcome, Unknown)
    assert "UNAVAILABLE" in outcome.error
    assert len(bank.calls) == 1


async def test_a_cut_connection_is_replaced(bank):
    bank.script(OUT, [HANG_UP])
    async with grpc_caller() as caller:
        assert isinstance(await caller.call(branch_call(bank.url(OUT))), Unknown)
        await asyncio.sleep(0.2)  # until the channel has noticed it: gRPC repeats nothing
        assert await caller.call(branch_call(bank.url(OUT))) == Success()
    assert bank.connections == 2


async def test_nobody_listens(bank):
    with GrpcParticipant() as gone:
        url = gone.url(OUT)
    async with grpc_caller() as caller:
        began = time.monotonic()
        outcome = await caller.call(branch_call(url))

    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert "Connection refused" in outcome.error
    assert time.monotonic() - began < 2


async def test_a_participant_that_comes_back_is_called_within_seconds():
    with GrpcParticipant() as gone:
        port = gone.port
    async with grpc_caller() as caller:
        url = f"127.0.0.1:{port}{OUT}"
        for _ in range(5):
            assert isinstance(await caller.call(branch_call(url)), Unknown)
            await asyncio.sleep(0.2)
        with GrpcParticipant(port):
            began = time.monotonic()
            while await caller.call(branch_call(url)) != Success():
                assert time.monotonic() - began < 10
                await asyncio.sleep(0.05)


async def test_a_cancelled_call_is_cancelled_at_the_participant_and_disturbs_no_other(bank):
    bank.script(OUT, [Say("ABORTED", "late", seconds=0.3)])
    async with grpc_caller() as caller:
        task = asyncio.ensure_future(caller.call(branch_call(bank.url(OUT))))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await caller.call(branch_call(bank.url(OUT))) == Success()
        assert bank.connections == 1


async def test_a_call_under_way_outlives_the_close_of_the_caller(bank):
    bank.script(OUT, [Say(seconds=0.3)])
    caller = GrpcCaller(CallerSettings(make_id=str))
    task = asyncio.ensure_future(caller.call(branch_call(bank.url(OUT))))
    await asyncio.sleep(0.1)
    await caller.close()

    assert await task == Success()
    assert caller._channels._channels == {}


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"x!y": "1"}, "the header name 'x!y' cannot be sent over gRPC"),
        ({"X-Token": "gehe\u00edm"}, "the value of the header X-Token is not printable ASCII"),
        ({"X-Token": "a\tb"}, "the value of the header X-Token is not printable ASCII"),
    ],
)
async def test_headers_that_grpc_cannot_carry_are_unknown_and_nothing_is_sent(bank, headers, text):
    async with grpc_caller() as caller:
        outcome = await caller.call(branch_call(bank.url(OUT), headers=headers))

    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert outcome.error.startswith(text)
    assert "gehe" not in outcome.error
    assert bank.calls == []


async def test_an_identity_that_grpc_cannot_carry_is_unknown(bank):
    async with grpc_caller() as caller:
        outcome = await caller.call(branch_call(bank.url(OUT), gid="订单"))

    assert isinstance(outcome, Unknown)
    assert "only ASCII" in outcome.error
    assert bank.calls == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("bank:8080", "no '/' found between the target and the method"),
        ("bank/bank.Bank/TransOut", "no port found in 'bank'"),
        ("bank:0/bank.Bank/TransOut", "'0' is not a port number"),
        ("bank:99999/bank.Bank/TransOut", "'99999' is not a port number"),
        ("me:secret@bank:80/bank.Bank/TransOut", "it contains a user name or password"),
        ("/bank.Bank/TransOut", "no valid host name"),
        ("unix:/tmp/socket/bank.Bank/TransOut", "no port found in 'unix:'"),
        ("bank:8080/TransOut", "'/TransOut' names no method"),
        ("bank:8080/", "'/' names no method"),
        ("bank:8080/bank.Bank/", "'/bank.Bank/' names no method"),
        ("bank:8080/bank.Bank/Überweisung", "names no method"),
        ("etcd://h:2379/bank/bank.Bank/TransOut", "no service discovery is set up for the scheme etcd://"),
    ],
)
async def test_urls_that_cannot_be_called_are_refused_and_never_raise(url, problem):
    async with grpc_caller() as caller:
        said = caller.check(url)
        outcome = await caller.call(branch_call(url))

    assert said
    assert problem in said
    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert outcome.error == f"the URL cannot be called: {said}"


async def test_local_hosts_can_be_replaced(bank):
    async with grpc_caller(local_host="localhost") as caller:
        assert caller._place("127.0.0.1:80/bank.Bank/A").target == "dns:///localhost:80"
        assert caller._place("other:80/bank.Bank/A").target == "dns:///other:80"
        assert await caller.call(branch_call(bank.url(OUT))) == Success()


async def test_calls_share_a_connection(bank):
    async with grpc_caller() as caller:
        outcomes = await asyncio.gather(*(caller.call(branch_call(bank.url(f"/bank.Bank/M{n}"))) for n in range(20)))

    assert outcomes == [Success()] * 20
    assert bank.connections == 1


async def test_an_unused_connection_is_closed(bank):
    async with grpc_caller(idle_seconds=0.2) as caller:
        assert await caller.call(branch_call(bank.url(OUT))) == Success()
        (channel,) = caller._channels._channels.values()
        until = time.monotonic() + 10
        while channel.state is not grpc.ChannelConnectivity.IDLE:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        assert await caller.call(branch_call(bank.url(OUT))) == Success()
    assert bank.connections == 2


async def test_the_number_of_channels_is_bounded_and_the_longest_unused_goes(bank, monkeypatch):
    monkeypatch.setattr(channels, "CHANNELS_MOST", 3)
    bank.script(OUT, [Say(seconds=0.5)])
    async with grpc_caller() as caller:
        slow = asyncio.ensure_future(caller.call(branch_call(bank.url(OUT))))
        await asyncio.sleep(0.1)
        for number in range(2, 8):
            url = f"127.0.0.{number}:1{OUT}"
            assert isinstance(await caller.call(branch_call(url)), Unknown)
            assert len(caller._channels._channels) <= 3
        assert set(caller._channels._channels) == {
            f"dns:///127.0.0.1:{bank.port}",
            "dns:///127.0.0.6:1",
            "dns:///127.0.0.7:1",
        }
        assert await slow == Success(), "the channel of a call under way was closed"


async def test_a_service_config_decides_about_repetitions(bank):
    retrying = """{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s",
        "maxBackoff": "0.1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""
    busy = Say("UNAVAILABLE", "busy")
    bank.script(OUT, [busy, busy])
    async with grpc_caller(grpc_service_config=retrying) as caller:
        assert await caller.call(branch_call(bank.url(OUT))) == Success()
    assert len(bank.calls) == 3

    assert isinstance(await outcome_of(bank, busy), Unknown)
    assert len(bank.calls) == 4


async def test_a_service_config_that_grpc_refuses_is_an_error_of_the_channel(bank):
    async with grpc_caller(grpc_service_config='{"loadBalancingConfig":[{"nope":{}}]}') as caller:
        outcome = await caller.call(branch_call(bank.url(OUT)))

    assert isinstance(outcome, Unknown)
    assert "INVALID_ARGUMENT: Failed to create" in outcome.error
    assert bank.calls == []


def test_the_target_of_a_service_has_all_its_addresses():
    assert service_target((("10.0.0.2", 80), ("10.0.0.1", 81))) == "ipv4:10.0.0.1:81,10.0.0.2:80"
    assert service_target((("::1", 80), ("fe80::2", 81))) == "ipv6:[::1]:80,[fe80::2]:81"
    assert service_target((("bank-1", 80), ("10.0.0.1", 81))) == "dns:///bank-1:80"
    assert service_target((("10.0.0.1", 81), ("::1", 80))) == "dns:///10.0.0.1:81"


def test_grpc_is_imported_by_the_first_call_only():
    """A server without gRPC branches starts without it."""
    program = """
import asyncio, sys
from reefknot.callers import discover
from reefknot.callers.base import BranchCall, CallerSettings

async def main():
    callers = discover(CallerSettings(make_id=str))
    call = lambda protocol, url: callers.call(BranchCall("g", "saga", "01", "action", url, b"", protocol, {}, 1.0))
    print(callers.check("http", "http://127.0.0.1:1/"), callers.check("grpc", "127.0.0.1:1/a.B/C"))
    await call("http", "http://127.0.0.1:1/")
    print([name for name in sys.modules if name.split(".")[0] in ("grpc", "google")])
    await call("grpc", "127.0.0.1:1/a.B/C")
    print("grpc" in sys.modules, "google.protobuf" in sys.modules)

asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines() == [" ", "[]", "True False"]
