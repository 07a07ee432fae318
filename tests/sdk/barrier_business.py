"""A business on one database that answers calls behind its barrier, and shows what became of them."""

import asyncio
import contextlib
import sqlite3

import pymysql

from reefknot.barrier import Reason
from reefknot.barrier.statements import DEFAULT_TABLES, Database, table_sql
from reefknot.errors import Failure
from sdk.barrier_connections import EFFECT_TABLE, Library, parts

ROWS = "SELECT gid, branch_id, op, barrier_id, reason FROM {table}"
EFFECTS = "SELECT gid, branch_id, op FROM effect"


class Broken(Exception):
    """The work of a business that fails."""


@contextlib.contextmanager
def administrator(database: Database, url: str):
    """A plain connection that commits at once."""
    if database is Database.SQLITE:
        connection = sqlite3.connect(url, timeout=30, isolation_level=None)
    elif database is Database.POSTGRES:
        import psycopg

        connection = psycopg.connect(url, autocommit=True)
    else:
        connection = pymysql.connect(**parts(url), autocommit=True)
    with contextlib.closing(connection):
        yield connection


def run_script(database: Database, url: str, script: str) -> None:
    with administrator(database, url) as connection:
        for statement in script.split(";"):
            if statement.strip():
                connection.cursor().execute(statement)


def prepare(database: Database, url: str, table: str = "") -> None:
    """Create the barrier's table and the business's own."""
    if database is Database.SQLITE:
        run_script(database, url, "PRAGMA journal_mode = WAL")
    run_script(database, url, table_sql(database, table))
    run_script(database, url, EFFECT_TABLE + (" CHARACTER SET utf8mb4" if database is Database.MYSQL else ""))


class Business:
    """A service that uses one library."""

    def __init__(self, library: Library, table: str = "") -> None:
        self.library, self.table = library, table
        self._opened, self._observer = contextlib.ExitStack(), None

    # --- as a user writes it --------------------------------------------------------------------

    def passes(self, identity, calls: int = 1, *, fails: bool = False) -> list[Reason]:
        """A handler that asks its barrier for each piece of work; what the barrier said."""
        if self.library.asynchronous:
            return asyncio.run(self._passes_async(identity, calls, fails=fails))
        barrier, said = self._barrier(identity), []
        with contextlib.suppress(Broken), self.library.transaction() as connection:
            for part in range(1, calls + 1):
                if barrier.passes(connection, part=part):
                    self.library.work(connection, _key(identity))
                said.append(barrier.reason)
            if fails:
                raise Broken
        return said

    async def _passes_async(self, identity, calls: int, *, fails: bool) -> list[Reason]:
        barrier, said = self._barrier(identity), []
        with contextlib.suppress(Broken):
            async with self.library.transaction() as connection:
                for part in range(1, calls + 1):
                    if await barrier.passes(connection, part=part):
                        await self.library.work(connection, _key(identity))
                    said.append(barrier.reason)
                if fails:
                    raise Broken
        return said

    def call(self, identity, *, fails: bool = False) -> Reason:
        """A handler whose transaction is the barrier's own."""
        if self.library.asynchronous:
            return asyncio.run(self._call_async(identity, fails=fails))
        barrier = self._barrier(identity)

        def work(connection):
            self.library.work(connection, _key(identity))
            if fails:
                raise Broken

        # Failure is what a message hears that is too late.
        with self.library.idle() as connection, contextlib.suppress(Broken, Failure):
            barrier.call(connection, work)
        return barrier.reason

    async def _call_async(self, identity, *, fails: bool) -> Reason:
        barrier = self._barrier(identity)

        async def work(connection):
            await self.library.work(connection, _key(identity))
            if fails:
                raise Broken

        async with self.library.idle() as connection:
            with contextlib.suppress(Broken, Failure):
                await barrier.call(connection, work)
        return barrier.reason

    def asked(self, identity) -> Reason:
        """The handler of a check-back: 200 or 409."""
        if self.library.asynchronous:
            return asyncio.run(self._asked_async(identity))
        barrier = self._barrier(identity)
        with self.library.idle() as connection:
            try:
                barrier.asked(connection)
            except Failure:
                return Reason.TOO_LATE
        return Reason.REPEATED

    async def _asked_async(self, identity) -> Reason:
        barrier = self._barrier(identity)
        async with self.library.idle() as connection:
            try:
                await barrier.asked(connection)
            except Failure:
                return Reason.TOO_LATE
        return Reason.REPEATED

    def _barrier(self, identity):
        return self.library.barrier(identity, table=self.table)

    # --- what became of it ----------------------------------------------------------------------

    def rows(self, prefix: str = "") -> list[tuple[str, ...]]:
        """The barrier's rows of the gids that begin with this, without it, sorted."""
        return self._all(ROWS.format(table=self.table or DEFAULT_TABLES[self.library.database]), prefix)

    def effects(self, prefix: str = "") -> list[tuple[str, ...]]:
        """What the work did, likewise."""
        return self._all(EFFECTS, prefix)

    def _all(self, statement: str, prefix: str) -> list[tuple[str, ...]]:
        if self._observer is None:
            self._observer = self._opened.enter_context(administrator(self.library.database, self.library.url))
        cursor = self._observer.cursor()
        cursor.execute(statement)
        found = cursor.fetchall()
        return sorted((gid.removeprefix(prefix), *rest) for gid, *rest in found if gid.startswith(prefix))

    def close(self) -> None:
        """Close what looks at the tables."""
        self._opened.close()


def _key(identity) -> tuple[str, str, str]:
    return identity["gid"], identity["branch_id"], identity["op"]
