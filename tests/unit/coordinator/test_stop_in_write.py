"""The server stops while a write is under way: the next driver learns that calls may still be running."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from reefknot.coordinator.records import snapshot
from reefknot.engine.registry import discover
from reefknot.model import Status
from reefknot.store.base import Write
from reefknot.testing.participant import FAILURE, Participant, Say
from reefknot.testing.server import PATIENCE_SECONDS, LocalServer

REQUEST_SECONDS = 3


def concurrent_saga(gid: str, participant: Participant) -> dict[str, Any]:
    steps = [{"action": participant.url(path), "compensate": participant.url("/undo")} for path in ("/now", "/slow")]
    return {
        "gid": gid,
        "trans_type": "saga",
        "steps": steps,
        "payloads": ["{}", "{}"],
        "concurrent": True,
        "custom_data": '{"concurrent":true}',
        "request_timeout": REQUEST_SECONDS,
    }


class HangingWrite:
    """The first write of a drive is sent and its answer never comes; later ones pass.

    Args:
        applied: whether the write that hangs takes effect.
    """

    def __init__(self, server: LocalServer, *, applied: bool) -> None:
        self._write = server.store.write
        self._applied = applied
        self.reached = threading.Event()
        server.store.write = self

    async def __call__(self, write: Write) -> bool:
        if self.reached.is_set():
            return await self._write(write)
        if self._applied:
            assert await self._write(write)
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "lost"])
def test_the_next_driver_learns_of_the_calls_that_were_cut_off(applied: bool) -> None:
    with Participant() as participant, LocalServer() as server:
        participant.always("/slow", Say(seconds=1))
        hanging = HangingWrite(server, applied=applied)
        server.post("submit", concurrent_saga("cut", participant))
        assert hanging.reached.wait(PATIENCE_SECONDS)
        before_ms = server.store.now_ms()

        server.run(server.node.stop(0))

        left = server.run(server.store.get("cut"))
        assert left is not None
        seen, _ = snapshot(discover()["saga"], left)
        assert [op.status for op in seen.ops if op.op == "action"] == [Status.SUCCEED, Status.PREPARED]
        assert seen.unsettled_until_ms >= before_ms + REQUEST_SECONDS * 1000
        assert (left.status, left.owner) == (Status.SUBMITTED, "")
        assert left.due_ms <= server.store.now_ms()


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "lost"])
def test_a_decision_to_roll_back_is_not_forgotten(applied: bool) -> None:
    with Participant() as participant, LocalServer() as server:
        participant.always("/now", FAILURE)
        hanging = HangingWrite(server, applied=applied)
        saga = concurrent_saga("refused", participant)
        server.post("submit", saga | {"steps": saga["steps"][:1], "payloads": ["{}"]})
        assert hanging.reached.wait(PATIENCE_SECONDS)

        server.run(server.node.stop(0))

        left = server.run(server.store.get("refused"))
        assert left is not None
        assert (left.status, left.owner) == (Status.ABORTING, "")
        assert "refused" in left.reason
        assert left.due_ms <= server.store.now_ms()
