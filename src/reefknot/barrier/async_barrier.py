"""The barrier for async code.

    async with conn.transaction():            # your transaction: the barrier never commits it
        if await barrier.passes(conn):        # writes the barrier's row in it
            await conn.execute("UPDATE ...")  # first time and in order: do the work

False means that there is nothing to do: answer 200 all the same. ``barrier.reason`` says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from reefknot.barrier import procedure, redis
from reefknot.barrier.core import Reason, asking_failed, missing
from reefknot.barrier.drivers import async_driver_of
from reefknot.barrier.drivers.base import AsyncDriver
from reefknot.barrier.faults import Fault, fault_of
from reefknot.barrier.identity import BranchCall, Place
from reefknot.barrier.kept import async_check_row
from reefknot.barrier.procedure import Answer, Do, Step, Steps
from reefknot.barrier.unawaited import Question, async_done

Result = TypeVar("Result")

#: How often ``call`` and ``asked`` begin again after a deadlock; each time one caller at least gets on.
MOST_DEADLOCKS = 50


class AsyncBarrier(BranchCall):
    """Keeps one branch operation to one effect: repeated, empty and late calls do nothing.

    Make one for each call, with ``from_query``, ``from_metadata`` or the four names. Connections of
    aiosqlite, psycopg, asyncpg, aiomysql, asyncmy, SQLAlchemy (Core and sessions), redis-py and PyMongo
    are known by their type. Methods are those of ``Barrier``, awaited; what ``passes`` returns is neither true
    nor false before that, but a ``TypeError``.
    """

    def passes(self, connection: Any, *, part: int | None = None) -> Question:
        """Whether the operation runs now, for the first time and in order.

        Writes the barrier's rows in the connection's transaction. Commit it in either case, and let an
        error of your own work roll it back: the rows vanish with the work. Never commits, never rolls back,
        never closes. Asked again, without a part, it is the same question once more: for a handler that
        begins its transaction again.

        Args:
            connection: with the transaction that the work is done in.
            part: which piece of work of the handler it is, from 1, where there are several.

        Returns:
            True: do the work. False: it was done before, or there is nothing to undo, or it was
            undone before it arrived; ``reason`` says which.

        Raises:
            NoLocalTransaction: the connection commits each statement by itself.
            LocalTransactionOpen: the barrier was asked on another connection to this database, which is inside a
                transaction still.
            BarrierMissing: the table does not exist.
            BarrierCollision: the table takes this row for that of another operation.
            Invalid: no driver knows the connection; or the barrier was asked before, said True, and its row is
                there: a second piece of work needs its ``part``, another attempt a new barrier; or ``call`` or a
                script of Redis counted its numbers in another database before, where each needs its ``part``.
        """
        return Question(self._asked_inside(connection, part))

    async def call(
        self, connection: Any, work: Callable[[Any], Awaitable[Result]], *, part: int | None = None
    ) -> Result | None:
        """Do the work in a transaction of its own, once.

        Args:
            connection: without an open transaction.
            work: is awaited with the connection, between begin and commit, if the operation runs. What it
                raises rolls everything back.
            part: which piece of work of the handler it is, from 1; without it the one after the last ``call``
                that was committed.

        Returns:
            What ``work`` returned; None if it was not called, and ``reason`` says why.

        Raises:
            LocalTransactionOpen: the connection is inside a transaction.
            TransactionLost: the work ended the transaction, or went on after an error that it did not survive.
                What is left of it is rolled back.
            Failure: a message's only: the server was told that it will not commit, so it must not be sent.
            Invalid: without a part, the barrier was asked in another database or Redis before; nobody awaits what
                the work returned, which is rolled back; or as ``passes``.
            BarrierMissing: as ``passes``, and so on.
        """
        driver = async_driver_of(connection)
        passed = await self._begun(driver, lambda driver: self._passes_in_time(driver, part))
        return await self._finish(driver, passed, lambda: work(connection), part)

    async def asked(self, connection: Any, *, prefix: str = "") -> None:
        """Answer the server's question whether a message's local transaction committed.

        Returns if it did: answer 200. If it has not by now, it never can: a row written here is in its way,
        and that row is committed before this says so.

        Args:
            connection: without an open transaction; or a client of redis-py.
            prefix: as ``redis_adjust``, with Redis only.

        Raises:
            Failure: it did not commit and never can: answer 409.
            LocalTransactionOpen: the connection is inside a transaction.
            BarrierMissing: as ``passes``, and so on.
        """
        if redis.is_client(connection):
            redis.refuse_sync(connection)
            reason = redis.asked_reason(await redis.evaluate(connection, redis.asking(self.branch, prefix)))
        else:
            driver = async_driver_of(connection)
            reason = await self._begun(driver, self._asks)
            await self._commit(driver)
        self._note(reason)
        if reason is Reason.TOO_LATE:
            raise asking_failed(self.branch)

    async def redis_adjust(
        self,
        client: Any,
        key: str,
        amount: int,
        *,
        expire: float | timedelta = redis.EXPIRE_SECONDS,
        prefix: str = "",
        part: int | None = None,
    ) -> bool:
        """Add to a number in Redis, once: the barrier, the check and the change are one script.

        An operation that may be refused (action, try, msg) does not take the number below zero. One
        that may not (an undo, a confirm) always goes through.

        Args:
            client: of redis-py.
            key: holds the number.
            amount: what to add; negative to take away.
            expire: seconds, or a timedelta, for which the barrier remembers the call.
            prefix: of the barrier's keys. On Redis Cluster give ``key`` and this the same hash tag.
            part: which piece of work of the handler it is, as ``call``.

        Returns:
            True: done now. False: there was nothing to do; ``reason`` says why.

        Raises:
            Failure: there is no such key, or too little in it; or as ``call``. Nothing was changed.
            Invalid: an argument is none; or as ``call``.
        """
        redis.refuse_sync(client)
        place = Place.of(client, redis.address(client, prefix))
        number = self._number_in_redis(place, part)
        planned = redis.adjusting(self.branch, number, key, amount, expire, prefix)
        reason, _ = redis.adjusted(await redis.evaluate(client, planned), key)
        ran = self._said_by_redis(place, part, reason)
        self._refuse_late_message(part)
        return ran

    async def script(
        self,
        client: Any,
        lua: str,
        keys: Sequence[str] = (),
        args: Sequence[Any] = (),
        *,
        expire: float | timedelta = redis.EXPIRE_SECONDS,
        prefix: str = "",
        part: int | None = None,
    ) -> Any:
        """Run a Lua script in Redis, once: the barrier and the script are one script.

        Args:
            client: of redis-py.
            lua: the script; ``KEYS`` and ``ARGV`` are its own. To refuse, return
                ``redis.error_reply('FAILURE and why')`` before it changes anything.
            keys: its keys.
            args: its arguments.
            expire: as ``redis_adjust``.
            prefix: as ``redis_adjust``.
            part: as ``redis_adjust``.

        Returns:
            What the script returned; None if it was not run, and ``reason`` says why.

        Raises:
            Failure: the script refused; or as ``call``.
            Invalid: as ``redis_adjust``.
        """
        redis.refuse_sync(client)
        place = Place.of(client, redis.address(client, prefix))
        number = self._number_in_redis(place, part)
        planned = redis.running(self.branch, number, lua, keys, args, expire, prefix)
        reason, result = redis.ran(await redis.evaluate(client, planned))
        self._said_by_redis(place, part, reason)
        self._refuse_late_message(part)
        return result

    async def _asked_inside(self, connection: Any, part: int | None) -> bool:
        driver = async_driver_of(connection)
        await driver.refuse_autocommit()
        return await self._passes(driver, part)

    async def _passes(self, driver: AsyncDriver, part: int | None = None, *, counting: bool = False) -> bool:
        number = self._number(part)
        table = self._table_of(driver.database)
        passing = procedure.passing(self.branch, number, table, driver.database)
        if part is not None:
            return self._said_of_part(part, await self._run(driver, passing))
        place = Place.of(driver.connection, await driver.place(table))
        self._refuse_elsewhere(place, counting=counting)
        self._refuse_another(place, _inside)
        return self._said_in(place, number, await self._run(driver, passing))

    async def _passes_in_time(self, driver: AsyncDriver, part: int | None) -> bool:
        passed = await self._passes(driver, part, counting=True)
        self._refuse_late_message(part)
        return passed

    async def _asks(self, driver: AsyncDriver) -> Reason:
        return await self._run(driver, procedure.asking(self.branch, self._table_of(driver.database)))

    async def _begun(self, driver: AsyncDriver, first: Callable[[AsyncDriver], Awaitable[Result]]) -> Result:
        """Begin a transaction and ask the barrier in it; begin again after a deadlock, as nothing else was done."""
        deadlocks = 0
        while True:
            await driver.begin()
            try:
                return await first(driver)
            except BaseException as error:
                await self._roll_back(driver, error)
                deadlocks += 1
                if deadlocks > MOST_DEADLOCKS or fault_of(error, driver.database) is not Fault.DEADLOCK:
                    raise

    async def _finish(
        self, driver: AsyncDriver, passed: bool, work: Callable[[], Awaitable[Result]], part: int | None = None
    ) -> Result | None:
        """Do the work if the operation runs, and commit. What goes wrong rolls everything back."""
        result = None
        try:
            if passed:
                result = await async_done(work())
                await async_check_row(driver, self.branch, self._table, part or self._last)
        except BaseException as error:
            self._take_back(part)
            await self._roll_back(driver, error)
            raise
        try:
            await self._commit(driver)
        except BaseException:
            # Asked again, the same number finds the row if it was committed after all.
            self._take_back(part)
            raise
        self._settled(part)
        return result

    @staticmethod
    async def _roll_back(driver: AsyncDriver, error: BaseException) -> None:
        """Roll back what raised this; whoever is interrupted is to hear that and nothing else."""
        try:
            await driver.rollback()
        except Exception:
            if isinstance(error, Exception):
                raise
        except BaseException:
            with contextlib.suppress(Exception):
                await driver.rollback()
            raise

    @staticmethod
    async def _commit(driver: AsyncDriver) -> None:
        """Commit; if that fails, the connection does not stay in the transaction."""
        try:
            await driver.commit()
        except BaseException:
            with contextlib.suppress(Exception):
                await driver.rollback()
            raise

    async def _run(self, driver: AsyncDriver, steps: Steps) -> Reason:
        answer: Answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                reason: Reason = end.value
                return reason
            answer = await self._answer(driver, step)

    async def _answer(self, driver: AsyncDriver, step: Step) -> Answer:
        table = self._table_of(driver.database)
        try:
            if step.do is Do.INSERT:
                return await driver.insert(step.row, table)
            return await driver.read(step.row, table)
        except Exception as error:
            fault = fault_of(error, driver.database)
            if fault is Fault.DUPLICATE:
                return False
            if fault is Fault.NO_TABLE:
                raise missing(table, self.branch, driver.database) from error
            raise


def _inside(connection: object) -> bool:
    """Whether a connection that was used before is inside a transaction still; one that was closed is not."""
    try:
        return async_driver_of(connection).inside() is True
    except Exception:  # noqa: BLE001 - each library has its own word for a closed connection
        return False
