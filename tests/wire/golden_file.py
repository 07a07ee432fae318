"""Reads the golden files: whole conversations of DTM's official clients, request by request.

A file starts with ``# Name: value`` lines:

    Client   who sends this
    Flow     what its user called
    Accepts  the client's own rule for a reply of the server, a name in ``RULES``
    Refuses  a path of the business that answers 409
    Later    seconds that pass after the last request
    Ends     the status at the end
    Call     a call that the business receives: method, path, op, branch id, body; ``-`` is nothing

Then come requests as they are on the wire, each after a line ``### name`` and followed by the reply
in a line ``<<< status body``, ``<<< TransGlobal`` or ``<<< progresses branch-op-status …``. The Host
line says whom the client asks: ``{{server}}`` or the ``{{business}}`` (the calls of phase one, which
clients make themselves). ``{{gid}}`` and ``{{length}}`` are filled in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "golden"


class Exchange(NamedTuple):
    """One request, and the reply in the file's notation."""

    name: str
    head: str
    body: str
    reply: str

    @property
    def to_business(self) -> bool:
        """Whether the client calls the business itself."""
        return "\nHost: {{business}}\n" in self.head

    def on_the_wire(self, names: dict[str, str]) -> bytes:
        """The bytes of the request."""
        body = fill(self.body, names).encode()
        head = fill(self.head, {**names, "length": str(len(body))})
        return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


class Golden(NamedTuple):
    """One file."""

    client: str
    accepts: str
    refuses: str
    later: float
    ends: str
    calls: list[str]
    exchanges: list[Exchange]


def fill(text: str, names: dict[str, str]) -> str:
    """The text with its names filled in."""
    for name, value in names.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def read(path: Path) -> Golden:
    """Read one file."""
    top, *parts = path.read_bytes().decode().split("\n### ")
    named = [line.removeprefix("# ").partition(": ")[::2] for line in top.splitlines() if line.startswith("# ")]
    first = dict(reversed(named))
    exchanges = []
    for part in parts:
        name, _, rest = part.partition("\n")
        request, _, reply = rest.rpartition("\n<<< ")
        head, _, body = request.partition("\n\n")
        exchanges.append(Exchange(name, head, body, reply.strip()))
    calls = [value for key, value in named if key == "Call"]
    later = float(first.get("Later", "0"))
    return Golden(first["Client"], first["Accepts"], first.get("Refuses", ""), later, first["Ends"], calls, exchanges)


def _clean(status: int, body: bytes) -> bool:
    return status == 200 and b"FAILURE" not in body


def _java(status: int, body: bytes) -> bool:
    """The reply is read into an object with two members; prepare and registerBranch want SUCCESS in it."""
    if not 200 <= status < 300:
        return False
    reply = json.loads(body)
    return set(reply) <= {"dtm_result", "gid"} and reply.get("dtm_result") == "SUCCESS"


def _jsonrpc(status: int, body: bytes) -> bool:
    return status == 200 and json.loads(body)["error"] is None


#: How each client decides whether its call of the server succeeded.
RULES: dict[str, Callable[[int, bytes], bool]] = {
    "200": lambda status, _: status == 200,
    "200 without FAILURE": _clean,
    "dtm_result SUCCESS": _java,
    "200 and error null": _jsonrpc,
}


def read_trans_global(body: bytes) -> dict[str, Any]:
    """Read a query's reply as the C# client's types do; raises where it would.

    Numbers fit 32 bits, dates that are present are dates and never null, lists hold what they should.
    """
    reply = json.loads(body)
    transaction, branches = reply["transaction"], reply["branches"]
    rows = [transaction, *branches]
    for row in rows:
        assert -(2**31) <= row["id"] < 2**31
        for name in ("create_time", "update_time", "finish_time", "next_cron_time"):
            if name in row:
                assert datetime.fromisoformat(row[name]).tzinfo is not None
    assert isinstance(transaction["update_time"], str)
    assert all(isinstance(step["action"], str) for step in transaction.get("steps", []))
    assert all(isinstance(payload, str) for payload in transaction.get("payloads", []))
    assert isinstance(transaction["options"], str)
    assert -(2**31) <= transaction["next_cron_interval"] < 2**31
    assert isinstance(transaction["concurrent"], bool)
    for branch in branches:
        assert {type(branch[name]) for name in ("gid", "branch_id", "op", "status")} == {str}
    return reply
