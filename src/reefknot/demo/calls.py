"""The demo's window into a bank: every call noted in a file, and answers held back on demand.

The bank's own code knows nothing of this. A call is noted before the bank sees it and again when
the answer leaves, so that a call that was cut off by a crash shows as one without an answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOLD_POLL_SECONDS = 0.02
#: How long a client that is still there is waited for in vain.
GONE_SECONDS = 0.1


class RecordedCall(msgspec.Struct, frozen=True):
    """One branch call as a bank saw it.

    ``status`` is 0 if nobody got an answer: the bank was gone, or the one who asked. Times are
    milliseconds since the Unix epoch; ``answered_ms`` is 0 if no answer left the bank.
    """

    gid: str
    branch_id: str
    op: str
    path: str
    arrived_ms: int
    answered_ms: int = 0
    status: int = 0
    answer: str = ""


class RecordedCalls:
    """Wraps a bank's application.

    While the file ``<record>.hold`` exists, the answer to a call of the path that it contains is
    held back: the bank has committed, and nobody has heard of it.

    Args:
        app: the bank.
        record: the file that calls are appended to.
    """

    def __init__(self, app: ASGIApp, record: Path) -> None:
        self._app = app
        self._record = record
        self._hold = hold_file(record)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        query = {key: values[-1] for key, values in parse_qs(scope["query_string"].decode()).items()}
        if "gid" not in query:
            await self._app(scope, receive, send)
            return
        names = {"gid": query["gid"], "branch_id": query["branch_id"], "op": query["op"], "path": scope["path"]}
        arrived_ms = _now_ms()
        self._note(names | {"arrived_ms": arrived_ms})
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                heard = not await self._wait(scope["path"]) or not await _gone(receive)
                status = message["status"] if heard else 0
            elif message["type"] == "http.response.body":
                outcome = {"answered_ms": _now_ms(), "status": status, "answer": message["body"].decode()}
                self._note(names | {"arrived_ms": arrived_ms} | outcome)
            await send(message)

        await self._app(scope, receive, answer)

    async def _wait(self, path: str) -> bool:
        """Wait while answers to the path are held back; whether there was anything to wait for."""
        waited = False
        while self._held(path):
            waited = True
            await asyncio.sleep(HOLD_POLL_SECONDS)
        return waited

    def _held(self, path: str) -> bool:
        try:
            return self._hold.read_text("utf-8") == path
        except FileNotFoundError:
            return False

    def _note(self, line: dict[str, Any]) -> None:
        # Written at once: the next thing that happens may be a SIGKILL.
        with self._record.open("a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")


def hold_file(record: Path) -> Path:
    """The file that holds answers back while it exists."""
    return record.with_name(record.name + ".hold")


def read_calls(record: Path) -> list[RecordedCall]:
    """The calls in order of arrival, each once."""
    if not record.exists():
        return []
    found: dict[tuple[str, str, str, int], RecordedCall] = {}
    for line in record.read_bytes().splitlines():
        call = msgspec.json.decode(line, type=RecordedCall)
        found[call.gid, call.branch_id, call.op, call.arrived_ms] = call
    return list(found.values())


async def _gone(receive: Receive) -> bool:
    """Whether the client has hung up meanwhile; all of its request has been read already."""
    try:
        async with asyncio.timeout(GONE_SECONDS):
            return bool((await receive())["type"] == "http.disconnect")
    except TimeoutError:
        return False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
