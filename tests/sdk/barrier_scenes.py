"""One test for sync and async libraries: scenes are coroutines, and those of sync libraries never wait."""

import asyncio
import contextlib
import inspect
import secrets
from collections.abc import Awaitable, Callable

from reefknot.barrier.statements import Database
from sdk.barrier_business import EFFECTS, ROWS, administrator, prepare, run_script
from sdk.barrier_connections import LIBRARIES

#: The barrier's table of each test database.
TABLES = {Database.SQLITE: "barrier", Database.POSTGRES: "dtm_barrier.barrier", Database.MYSQL: "own"}


def on(*databases):
    """The names of the libraries for these databases."""
    return [name for name, library in LIBRARIES.items() if library("").database in databases]


async def done(result):
    """The result, awaited if it has to be."""
    return await result if inspect.isawaitable(result) else result


class Stage:
    """A library on a database, and what became of what was done there."""

    def __init__(self, library, url) -> None:
        self.library, self.url = library(url), url
        self.database = self.library.database
        self.table = TABLES[self.database]

    def barrier(self, gid="g1", op="action", trans_type="saga", branch_id="01"):
        query = {"trans_type": trans_type, "gid": gid, "branch_id": branch_id, "op": op}
        return self.library.barrier(query, table=self.table)

    def run(self, scene: Callable[[], Awaitable[object]]):
        """Play a scene; what it returns."""
        if self.library.asynchronous:
            return asyncio.run(scene())
        playing = scene()
        try:
            playing.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("a scene of a sync library waited")

    @contextlib.asynccontextmanager
    async def idle(self):
        async with contextlib.AsyncExitStack() as opened:
            yield await self._entered(opened, self.library.idle())

    @contextlib.asynccontextmanager
    async def transaction(self):
        async with contextlib.AsyncExitStack() as opened:
            yield await self._entered(opened, self.library.transaction())

    async def _entered(self, opened, context):
        return await opened.enter_async_context(context) if self.library.asynchronous else opened.enter_context(context)

    async def passes(self, barrier, connection, part=None):
        return await done(barrier.passes(connection, part=part))

    async def call(self, barrier, connection, work, part=None):
        """``call`` with a work that is a coroutine function."""
        if self.library.asynchronous:
            return await barrier.call(connection, work, part=part)
        return barrier.call(connection, lambda connection: self.run(lambda: work(connection)), part=part)

    async def effect(self, connection, gid="g1", op="action"):
        """The work: one row."""
        await done(self.library.work(connection, (gid, "01", op)))

    async def broken(self, connection):
        """A statement that the database refuses."""
        await done(
            self.library.run(connection, "INSERT INTO effect (gid, branch_id, op) VALUES (NULL, '01', 'action')")
        )

    async def statement(self, connection, statement):
        await done(self.library.run(connection, statement))

    async def end(self, connection, word):
        await done(self.library.end(connection, word))

    def rows(self) -> list[tuple[str, ...]]:
        """The barrier's: gid, operation, number and reason."""
        found = self.all(ROWS.format(table=self.table))
        return sorted((gid, op, number, reason) for gid, _, op, number, reason in found)

    def effects(self) -> list[str]:
        """The gids for which the work was done, each as often as it was."""
        return sorted(gid for gid, *_ in self.all(EFFECTS))

    def change(self, *statements) -> None:
        """Run statements and commit each."""
        run_script(self.database, self.url, ";".join(statements))

    def all(self, statement):
        with administrator(self.database, self.url) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]


class Stages:
    """The test databases of one module: two of each kind, made when they are first needed."""

    def __init__(self, request, folder) -> None:
        self._request, self._folder = request, folder
        self._urls: dict[tuple[Database, int], str] = {}

    def __call__(self, name, number=1) -> Stage:
        """A library on the first or second database of its kind, with empty tables."""
        library = LIBRARIES[name]
        database = library("").database
        if (database, number) not in self._urls:
            self._urls[database, number] = self._new(database)
        stage = Stage(library, self._urls[database, number])
        for table in (stage.table, "effect"):
            run_script(database, stage.url, f"DELETE FROM {table}")
        return stage

    def _new(self, database) -> str:
        name = f"stage_{secrets.token_hex(4)}"
        if database is Database.SQLITE:
            url = str(self._folder / f"{name}.db")
        elif database is Database.POSTGRES:
            server = self._request.getfixturevalue("postgres")
            with administrator(database, server.url) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            url = server.url_of(name)
        else:
            url = self._request.getfixturevalue("mariadb").create_database(name)
        prepare(database, url, "own" if database is Database.MYSQL else "")
        return url
