"""No stored transaction and no participant stops another transaction (P17)."""

from __future__ import annotations

import time

import msgspec

from reefknot.callers.base import BranchCall
from reefknot.model import Outcome, Status
from reefknot.store.base import NewTransaction
from reefknot.testing.participant import HANG_UP, OK, Participant, Say
from reefknot.testing.server import LocalServer


def saga(gid: str, url: str, **options: object) -> dict[str, object]:
    return {"gid": gid, "trans_type": "saga", "steps": [{"action": url}], "payloads": [""], **options}


def stored(gid: str, *, mode: str = "saga", body: bytes = b"\xc1 not msgpack") -> NewTransaction:
    return NewTransaction(gid, mode, Status.SUBMITTED, body, b"", due_in_ms=0)


def test_a_transaction_that_cannot_be_read_backs_off_alone() -> None:
    with Participant() as participant, LocalServer() as server:
        server.run(server.store.create(stored("broken")))
        server.run(server.store.create(stored("from-the-future", mode="teleport")))
        server.post("submit", saga("healthy", participant.url("/a"), wait_result=True))

        driven = server.cron(look_ahead=0)

        assert sorted(driven) == ["broken", "from-the-future"]
        assert server.cron(look_ahead=60) == []
        assert server.status("healthy") == "succeed"
        left = server.run(server.store.get("broken"))
        assert left is not None
        assert (left.status, left.owner, left.attempts) == (Status.SUBMITTED, "", 1)


def test_a_defect_while_driving_delays_one_transaction_and_does_not_lose_it() -> None:
    with Participant() as participant, LocalServer() as server:
        sound = server.node.callers.call

        async def broken(call: BranchCall) -> Outcome:
            raise RuntimeError("a defect")

        server.node.callers.call = broken
        server.post("submit", saga("unlucky", participant.url("/a")))
        server.settle()
        server.node.callers.call = sound

        assert server.cron(look_ahead=0) == []
        assert server.cron(look_ahead=60) == ["unlucky"]
        assert server.status("unlucky") == "succeed"


def test_a_mode_of_a_newer_version_can_still_be_listed() -> None:
    with LocalServer() as server:
        body = msgspec.msgpack.encode([])
        server.run(server.store.create(stored("from-the-future", mode="teleport", body=body)))

        found = server.get("query", gid="from-the-future").json()["transaction"]
        listed = server.get("all").json()["transactions"]

        assert found["trans_type"] == "teleport"
        assert [row["gid"] for row in listed] == ["from-the-future"]


def test_a_hanging_participant_delays_only_its_own() -> None:
    with Participant() as hanging, Participant() as healthy, LocalServer(request_timeout=1) as server:
        hanging.always("/a", Say(seconds=1.5))
        for number in range(40):
            server.post("submit", saga(f"stuck{number}", hanging.url("/a")))

        started = time.monotonic()
        for number in range(40):
            reply = server.post("submit", saga(f"fine{number}", healthy.url("/a"), wait_result=True))
            assert reply.status == 200

        assert time.monotonic() - started < 1.0
        server.settle()
        assert {server.status(f"stuck{number}") for number in range(40)} == {"submitted"}


def test_what_waits_for_a_silent_host_is_woken_by_its_first_answer() -> None:
    with Participant() as participant, LocalServer(poll=True, retry_interval=30) as server:
        participant.always("/a", HANG_UP)
        for number in range(6):
            server.post("submit", saga(f"g{number}", participant.url("/a")))
        server.settle()
        participant.always("/a", OK)

        server.post("submit", saga("probe", participant.url("/a"), wait_result=True))

        for number in range(6):
            server.wait_for(f"g{number}", "succeed", seconds=5)


def test_a_prepared_saga_is_left_to_its_client() -> None:
    with LocalServer() as server:
        server.post("prepare", saga("resting", "http://127.0.0.1:9/a"))
        server.post("resetNextCronTime", {"gid": "resting"})

        assert server.cron(look_ahead=0) == ["resting"]
        assert server.cron(look_ahead=86_400) == []
        assert server.status("resting") == "prepared"
