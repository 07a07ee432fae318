"""A few connections for many tasks: a task waits for a free one, and gets one that is well if there is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from reefknot.errors import StoreUnavailable
from reefknot.store.mysql.session import Result, Session


class Pool:
    """A few sessions for many tasks.

    Args:
        sessions: the sessions; connections are made when they are first needed.
        patience: how long a task waits for a free one, seconds.
        keep: how many keep their connections while nobody needs them.
    """

    def __init__(self, sessions: Iterable[Session], patience: float, keep: int) -> None:
        self._patience = patience
        self._keep = keep
        #: Free sessions with a connection.
        self._idle = 0
        # The last one is taken. Those without a connection come first: they may stay so, and one that could not
        # connect does not stand before those that are well.
        self._free = list(sessions)
        self._size = len(self._free)
        self._turns = asyncio.Semaphore(self._size)
        self._closed = False

    async def run(
        self, work: Callable[[Session], Awaitable[Result]], *, seconds: float = 0.0, commits: bool = True
    ) -> Result:
        """As ``Session.run``, on the next free one.

        Raises:
            StoreUnavailable: as there, or ``close`` was called.
        """
        async with self._session() as session:
            return await session.run(work, seconds=seconds, commits=commits)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailable("every connection to MySQL is busy") from error
        session = self._free.pop()
        self._idle -= session.connected
        try:
            yield session
        finally:
            try:
                if session.connected and self._idle >= self._keep:
                    await session.close()
            finally:
                self._idle += session.connected
                self._free.insert(len(self._free) if session.connected else 0, session)
                self._turns.release()

    async def close(self) -> None:
        """Refuse new work, wait for what runs, close the connections."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._size):
            await self._turns.acquire()
        for session in self._free:
            await session.close()
