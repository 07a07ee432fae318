"""What a Redis server does with what it was told to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from reefknot.errors import StoreUnavailable
from reefknot.store.base import Durability
from reefknot.store.redis.connection import Connection, ServerError

#: From the strongest to the weakest.
_LEVELS = ("full", "crash", "process", "none")


class ServerSettings(msgspec.Struct, frozen=True):
    """The settings of one server that say what it may lose; empty where it does not tell."""

    server: str
    role: str
    policy: str
    append_only: str
    append_fsync: str
    rests_on_rewrite: bool
    append_ok: bool
    snapshots: str

    @property
    def evicts(self) -> bool:
        """Whether a server that is full may delete keys by itself."""
        return self.policy not in ("noeviction", "")

    def durability(self) -> Durability:
        """What is left after a crash, with the reason in words."""
        fsync = self.append_fsync or "not readable"
        detail = (
            f"Redis {self.server}: appendonly={self.append_only}, appendfsync={fsync}, "
            f"no-appendfsync-on-rewrite={'yes' if self.rests_on_rewrite else 'no'}, save={self.snapshots!r}, "
            f"maxmemory-policy={self.policy or 'not readable'}, role={self.role}"
        )
        if self.evicts:
            return Durability("none", f"{detail}: a full server deletes transactions; set maxmemory-policy noeviction")
        if self.append_only != "yes":
            lost = "the last snapshot" if self.snapshots else "the start"
            return Durability("none", f"{detail}: a crash loses everything since {lost}; set appendonly yes")
        if not self.append_ok:
            return Durability("none", f"{detail}: the last write to the append-only file failed")
        if self.rests_on_rewrite:
            reason = "nothing is flushed while Redis rewrites the file; set no-appendfsync-on-rewrite no"
            return Durability("process", f"{detail}: {reason}")
        level, text = {
            "always": ("full", "every change is on the disk before it is acknowledged; a failover may still lose some"),
            "everysec": ("crash", "a crash of the machine loses the last second or two, one of Redis nothing"),
        }.get(self.append_fsync, ("process", "a crash of Redis loses nothing, one of the machine what was not written"))
        return Durability(level, f"{detail}: {text}")


async def read_settings(connection: Connection) -> ServerSettings:
    """Ask a server for its settings.

    A user without the right to read the configuration sees the file's name but not how it is
    flushed; then the weakest is assumed.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    answer = await _allowed(connection, "INFO")
    if answer is None:
        raise StoreUnavailable(f"Redis {connection.name}: the user has no right to INFO")
    info = dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
    names = ("appendfsync", "no-appendfsync-on-rewrite", "save")
    found = [await _allowed(connection, "CONFIG", "GET", name) for name in names]
    fsync, rests, save = (answer[1].decode() if answer else "" for answer in found)
    return ServerSettings(
        server=connection.name,
        role=info.get("role", ""),
        policy=info.get("maxmemory_policy", ""),
        append_only="yes" if info.get("aof_enabled") == "1" else "no",
        append_fsync=fsync,
        rests_on_rewrite=rests == "yes",
        append_ok=info.get("aof_last_write_status", "ok") == "ok",
        snapshots=save,
    )


async def _allowed(connection: Connection, *command: str) -> Any:
    """The answer to a command, ``None`` if the user may not send it or the server does not know it."""
    try:
        return await connection.send(*command)
    except ServerError as error:
        if error.kind in ("NOPERM", "ERR"):
            return None
        raise StoreUnavailable(f"Redis {connection.name}: {error}") from error


def weakest(settings: Sequence[ServerSettings]) -> Durability:
    """What several servers together promise: no more than the weakest of them."""
    found = [one.durability() for one in settings]
    worst = max(found, key=lambda durability: _LEVELS.index(durability.level))
    others = f" (the weakest of {len(found)} servers)" if len(found) > 1 else ""
    return Durability(worst.level, worst.detail + others)
