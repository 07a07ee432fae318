"""Many callers, one commit: the shared part of every durable store.

While one batch is being committed, further operations queue up; when the commit returns, all of
them make the next batch. There is no timer: a lone operation is committed at once, and under load
the batches grow by themselves. Each caller is answered after the commit that holds its operation.

A batch that fails is committed in halves, so an operation that cannot be applied fails alone. The
exception is ``StoreUnavailable``: then it is not known what was committed, repeating could apply
an operation twice, and every caller of the batch gets that error.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from reefknot.errors import Overloaded, StoreUnavailable
from reefknot.failpoints import Failpoints

Operation = TypeVar("Operation")
Result = TypeVar("Result")


class GroupCommit(Generic[Operation, Result]):
    """Collects operations into batches and hands every caller its own result.

    Args:
        execute: applies a batch durably and in order, and returns one result per operation. If it
            raises anything but ``StoreUnavailable``, it has applied nothing.
        failpoints: ``group.batch_built``, ``group.batch_committed``, ``group.bisect``.
        max_batch: the largest number of operations in one commit.
        max_queue: the largest number of operations waiting; more are refused.
    """

    def __init__(
        self,
        execute: Callable[[Sequence[Operation]], Awaitable[Sequence[Result]]],
        *,
        failpoints: Failpoints,
        max_batch: int = 256,
        max_queue: int = 50_000,
    ) -> None:
        self._execute = execute
        self._fail = failpoints
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._waiting: deque[tuple[Operation, asyncio.Future[Result]]] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, operation: Operation) -> asyncio.Future[Result]:
        """Queue one operation; the future ends when it is committed or has failed.

        Cancelling the future does not take the operation back.

        Raises:
            Overloaded: too many operations are waiting; this one is not queued.
            StoreUnavailable: ``close`` was called.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if len(self._waiting) >= self._max_queue:
            raise Overloaded(f"{self._max_queue} writes are waiting for the store")
        loop = self._loop
        if loop is None:  # asked once: the question is a system call
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((operation, future))
        if self._flusher is None:
            self._flusher = loop.create_task(self._flush(), name="group commit")
        return future

    async def close(self) -> None:
        """Refuse new operations and return when those that were accepted are answered."""
        self._closed = True
        if self._flusher is not None:
            await asyncio.shield(self._flusher)

    async def _flush(self) -> None:
        """Commit batch after batch until nothing is waiting."""
        try:
            while self._waiting:
                size = min(len(self._waiting), self._max_batch)
                await self._commit([self._waiting.popleft() for _ in range(size)])
        finally:
            self._flusher = None
            while self._waiting:  # only when this task was cancelled or hit something fatal
                _fail(self._waiting.popleft()[1], StoreUnavailable("the store's writer was stopped"))

    async def _commit(self, batch: list[tuple[Operation, asyncio.Future[Result]]]) -> None:
        """Commit a batch, in halves if need be, and answer its callers."""
        try:
            if self._fail.armed:
                await self._fail.hit("group.batch_built")
            results = await self._execute([operation for operation, _ in batch])
            await self._committed()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
            if len(batch) == 1 or isinstance(error, StoreUnavailable):
                for _, future in batch:
                    _fail(future, error)
                return
        except BaseException:
            for _, future in batch:
                _fail(future, StoreUnavailable("the store's writer was stopped during a commit"))
            raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
            return
        await self._commit_halves(batch)

    async def _committed(self) -> None:
        """The failpoint after a commit; an error here must not lead to a second commit."""
        try:
            if self._fail.armed:
                await self._fail.hit("group.batch_committed")
        except Exception as error:
            raise StoreUnavailable("the answer of the store was lost") from error

    async def _commit_halves(self, batch: list[tuple[Operation, asyncio.Future[Result]]]) -> None:
        """Commit what could not be committed together."""
        middle = len(batch) // 2
        try:
            if self._fail.armed:
                await self._fail.hit("group.bisect")
        finally:
            await self._commit(batch[:middle])
            await self._commit(batch[middle:])


def _fail(future: asyncio.Future[Result], error: Exception) -> None:
    """Give a caller the error, unless it stopped waiting."""
    if not future.done():
        future.set_exception(error)
