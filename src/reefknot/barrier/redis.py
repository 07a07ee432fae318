"""The barrier in Redis: keys instead of rows, and one script for barrier and work.

The keys are those of DTM's clients: ``gid-branch-op-number`` holds the operation that wrote it, and an
undo of nothing leaves ``rollback`` in the key of its origin. What is otherwise here, on purpose:

* whether the call is a repetition is looked at first, before the balance: a debit that went through
  stays a success when it is repeated, even if the account is empty by now;
* an undo or a confirmation is never refused for lack of money, because it would be repeated for ever;
* ``rollback`` undoes ``action``, as in the barrier's tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from typing import Any

import msgspec

from reefknot.barrier.core import BLOCKED, Branch, Reason, Row, asking_row, rows
from reefknot.errors import Failure, Invalid
from reefknot.model import Op

#: For how long a call is remembered unless the caller says otherwise: a week, as in DTM's tests.
EXPIRE_SECONDS = 7 * 86400
#: The operations whose refusal rolls a transaction back; any other would be repeated for ever.
REFUSABLE = frozenset({Op.ACTION.value, Op.MSG.value, "try"})

_LIBRARIES = frozenset({"redis", "valkey"})
_FOLDER = files("reefknot.barrier") / "statements"
_PASSES = (_FOLDER / "passes.lua").read_text("utf-8")
_ADJUST = (_FOLDER / "adjust.lua").read_text("utf-8")
_ASKED = (_FOLDER / "asked.lua").read_text("utf-8")
_REFUSED = "refused"


class Planned(msgspec.Struct, frozen=True):
    """One script with its keys and arguments."""

    lua: str
    keys: tuple[str, ...]
    args: tuple[Any, ...]


def is_client(connection: object) -> bool:
    """Whether this is a client of redis-py, or of valkey-py, which is made like it."""
    packages = {base.__module__.partition(".")[0] for base in connection.__class__.__mro__}
    return bool(packages & _LIBRARIES)


def address(client: Any, prefix: str) -> object:
    """What clients have in common that mean the same keys by a name and this prefix; None if that cannot be told."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    socket, host = options.get("path"), options.get("host")
    if not socket and not host:  # of a cluster, or behind Sentinel
        return None
    return "redis", socket or (host, options.get("port", 6379)), options.get("db") or 0, prefix


def is_async(client: Any) -> bool:
    """Whether the client's calls are awaited."""
    return inspect.iscoroutinefunction(client.execute_command)


def refuse_async(client: Any) -> None:
    """Refuse what the sync barrier cannot call.

    Raises:
        Invalid: it is no client of redis-py, or an async one, or a pipeline.
    """
    _refuse_unless_client(client)
    if is_async(client):
        raise Invalid("client", "is an async one", "use AsyncBarrier")


def refuse_sync(client: Any) -> None:
    """Refuse what the async barrier cannot await.

    Raises:
        Invalid: it is no client of redis-py, or a sync one, or a pipeline.
    """
    _refuse_unless_client(client)
    if not is_async(client):
        raise Invalid("client", "is a sync one", "use Barrier")


def evaluate(client: Any, planned: Planned) -> Any:
    """Run the script; what it returned, or with an async client an awaitable of that."""
    return client.register_script(planned.lua)(keys=planned.keys, args=planned.args)


def adjusting(branch: Branch, call: int, key: str, amount: int, expire: float | timedelta, prefix: str) -> Planned:
    """The script that adds to a number.

    Raises:
        Invalid: the amount is no whole number, or the time is not positive.
    """
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise Invalid("amount", f"is {amount!r}", "give a whole number: Redis adds nothing else exactly")
    refusable = "1" if branch.op in REFUSABLE else ""
    return _guarded(branch, call, _ADJUST, (key,), (amount, refusable), expire, prefix)


def adjusted(answer: Sequence[Any], key: str) -> tuple[Reason, Any]:
    """What ``adjusting`` came to.

    Raises:
        Failure: there is too little.
    """
    return _read(answer, f"not enough in {key}")


def running(
    branch: Branch,
    call: int,
    lua: str,
    keys: Sequence[str],
    args: Sequence[Any],
    expire: float | timedelta,
    prefix: str,
) -> Planned:
    """The script that runs a user's script.

    Raises:
        Invalid: the script has a first line for Redis, or the time is not positive.
    """
    if lua.startswith("#!"):
        raise Invalid("lua", "begins with '#!'", "leave that line out: the script becomes part of the barrier's")
    return _guarded(branch, call, lua, keys, args, expire, prefix)


def ran(answer: Sequence[Any]) -> tuple[Reason, Any]:
    """What ``running`` came to, and what the user's script returned.

    Raises:
        Failure: the script refused.
    """
    return _read(answer, "")


def asking(branch: Branch, prefix: str) -> Planned:
    """The script by which a check-back asks whether the message's local transaction committed."""
    return Planned(_ASKED, (_key(asking_row(branch), prefix),), (BLOCKED, EXPIRE_SECONDS))


def asked_reason(answer: Any) -> Reason:
    """What ``asking`` came to."""
    return Reason.TOO_LATE if _text(answer) == BLOCKED else Reason.REPEATED


def _guarded(
    branch: Branch,
    call: int,
    lua: str,
    keys: Sequence[str],
    args: Sequence[Any],
    expire: float | timedelta,
    prefix: str,
) -> Planned:
    seconds = int(expire.total_seconds() if isinstance(expire, timedelta) else expire)
    if seconds < 1:
        raise Invalid("expire", f"is {expire!r}", "give at least one second; a week is usual")
    *origin, own = rows(branch, call)
    barrier_keys = [_key(own, prefix), *(_key(row, prefix) for row in origin)]
    return Planned(
        _PASSES.replace("--[[work]]", lua),
        (*barrier_keys, *keys),
        (len(barrier_keys), branch.op, BLOCKED, seconds, *args),
    )


def _read(answer: Sequence[Any], refusal: str) -> tuple[Reason, Any]:
    said = _text(answer[0])
    result = answer[1] if len(answer) > 1 else None
    if said == _REFUSED:
        raise Failure(refusal or _text(result).removeprefix("FAILURE").strip() or "refused by the script")
    return Reason(said), result


def _key(row: Row, prefix: str) -> str:
    return f"{prefix}{row.gid}-{row.branch_id}-{row.op}-{row.barrier_id}"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _refuse_unless_client(client: Any) -> None:
    if not is_client(client) or not hasattr(client, "register_script") or hasattr(client, "command_stack"):
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise Invalid("client", f"is a {kind}", "pass a client of redis-py, and no pipeline")
