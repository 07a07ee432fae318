"""Connects to a barrier's database by URL, with whichever library is installed: for the command line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from reefknot.barrier.statements import Database, Placeholder
from reefknot.errors import Invalid, ReefknotError

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


class Opened(Protocol):
    """A connection that commits each statement by itself."""

    database: Database
    placeholder: Placeholder

    def run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement; the rows of a query, none of any other."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class _Plain:
    """A connection of a sync library."""

    def __init__(self, connection: Any, database: Database, placeholder: Placeholder) -> None:
        self.database = database
        self.placeholder = placeholder
        self._connection = connection

    def run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(statement, tuple(parameters))
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def close(self) -> None:
        self._connection.close()


class _Awaited:
    """A connection of an async library, on an event loop of its own."""

    def __init__(self, connect: Callable[[], Any], database: Database, placeholder: Placeholder) -> None:
        self.database = database
        self.placeholder = placeholder
        self._runner = asyncio.Runner()
        try:
            self._connection = self._runner.run(connect())
        except BaseException:
            self._runner.close()
            raise

    def run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._runner.run(self._run(statement, parameters))

    async def _run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self.placeholder is Placeholder.NUMBER:  # asyncpg
            return [tuple(row) for row in await self._connection.fetch(statement, *parameters)]
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement, tuple(parameters))
            return [tuple(row) for row in await cursor.fetchall()]

    def close(self) -> None:
        try:
            self._runner.run(self._close())
        finally:
            self._runner.close()

    async def _close(self) -> None:
        # asyncmy says good-bye with ensure_closed; its close() only drops the socket.
        await getattr(self._connection, "ensure_closed", self._connection.close)()


def open_connection(url: str) -> Opened:
    """Connect to a database.

    Args:
        url: ``sqlite:///file.db``, ``postgres://user@host/database`` or ``mysql://user@host/database``. PostgreSQL
            takes psycopg or asyncpg, MySQL takes PyMySQL, MySQL Connector/Python or asyncmy.

    Raises:
        Invalid: the URL cannot be read, no such kind of database is known, or no library for it is installed.
        ReefknotError: the database cannot be reached.
    """
    split = split_url(url)
    scheme = split.scheme.partition("+")[0]
    if scheme not in _OPENERS:
        raise Invalid("url", f"begins with {scheme!r}", f"use one of {', '.join(_OPENERS)}")
    modules, remedy = _OPENERS[scheme]
    for module, opener in modules.items():
        try:
            library = import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != module.partition(".")[0]:
                raise
            continue
        try:
            return opener(library, url)
        except Exception as error:  # each library has its own, and some have several
            raise ReefknotError(f"cannot connect to {place_of(split)} with {module}: {error}") from error
    raise Invalid(
        "url", f"needs one of {', '.join(modules)}, and none is installed", f"install it: pip install {remedy}"
    )


def split_url(url: str) -> SplitResult:
    """The parts of a database's URL. An error never quotes it, as it may hold a password.

    Raises:
        Invalid: it cannot be taken apart, or a character of the login ends it too early.
    """
    fix = "in a user or password write / ? # @ : [ ] % as %2F %3F %23 %40 %3A %5B %5D %25"
    try:
        split = urlsplit(url)
        for server in split.netloc.rpartition("@")[2].split(","):  # PostgreSQL takes several
            _ = urlsplit(f"//{server}").port
    except ValueError:
        raise Invalid("url", "has a server that cannot be read: the port must be a number", fix) from None
    if split.netloc and (split.fragment or "@" in split.path or ("@" in split.query and "@" not in split.netloc)):
        raise Invalid("url", "has a # or an @ behind the server", fix)
    # libpq would quote the part of the login that it cannot read.
    if split.scheme.startswith("postgres") and _BAD_ESCAPE.search(split.netloc):
        raise Invalid("url", "has a % in the login that is not followed by two digits", fix)
    return split


def place_of(split: SplitResult) -> str:
    """The servers or the file of a URL, for messages, without the login."""
    return split.netloc.rpartition("@")[2] or (split.path[1:] if split.scheme == "sqlite" else split.path)


def postgres_url(url: str) -> str:
    """The URL as libpq and asyncpg take it, whatever scheme it has."""
    return f"postgresql://{url.partition('://')[2]}"


def mysql_arguments(split: SplitResult) -> dict[str, Any]:
    """What ``connect`` of the libraries for MySQL takes, without what the URL leaves open."""
    found = {
        "host": split.hostname,
        "port": split.port,
        "user": split.username and unquote(split.username),
        "password": split.password and unquote(split.password),
        "database": split.path.lstrip("/"),
    }
    return {name: value for name, value in found.items() if value}


def _sqlite(library: Any, url: str) -> Opened:
    path = unquote(urlsplit(url).path)[1:]
    # Not created: an empty file has no table to check. A busy database is waited for.
    connection = library.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=30)
    return _Plain(connection, Database.SQLITE, Placeholder.QUESTION)


def _psycopg(library: Any, url: str) -> Opened:
    return _Plain(library.connect(postgres_url(url), autocommit=True), Database.POSTGRES, Placeholder.FORMAT)


def _asyncpg(library: Any, url: str) -> Opened:
    return _Awaited(lambda: library.connect(postgres_url(url)), Database.POSTGRES, Placeholder.NUMBER)


def _mysql(library: Any, url: str) -> Opened:
    return _Plain(
        library.connect(**mysql_arguments(urlsplit(url)), autocommit=True), Database.MYSQL, Placeholder.FORMAT
    )


def _asyncmy(library: Any, url: str) -> Opened:
    return _Awaited(
        lambda: library.connect(**mysql_arguments(urlsplit(url)), autocommit=True), Database.MYSQL, Placeholder.FORMAT
    )


_Openers = tuple[Mapping[str, Callable[[Any, str], Opened]], str]
_POSTGRES: _Openers = ({"psycopg": _psycopg, "asyncpg": _asyncpg}, "'reefknot[postgres]'")
_MYSQL: _Openers = (
    {"pymysql": _mysql, "MySQLdb": _mysql, "mysql.connector": _mysql, "asyncmy": _asyncmy},
    "'reefknot[mysql]'",
)
_OPENERS: Mapping[str, _Openers] = {
    "sqlite": ({"sqlite3": _sqlite}, "sqlite3"),
    "postgres": _POSTGRES,
    "postgresql": _POSTGRES,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
