"""Requests that wait for a transaction to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from reefknot.coordinator.drive import End


class Waiting:
    """Who waits for which gid, on this node."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[End]]] = {}

    @contextmanager
    def join(self, gid: str) -> Iterator[asyncio.Future[End]]:
        """A future of the end of the next drive of this gid; join before the drive can start."""
        future: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(gid, set()).add(future)
        try:
            yield future
        finally:
            rest = self._waiting.get(gid)
            if rest is not None:
                rest.discard(future)
                if not rest:
                    self._waiting.pop(gid, None)

    def ended(self, gid: str, end: End) -> None:
        """A drive of this gid ended, or somebody decided from outside: tell all who wait."""
        for future in self._waiting.pop(gid, ()):
            if not future.done():
                future.set_result(end)
