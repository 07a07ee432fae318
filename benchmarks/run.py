"""``make bench``: starts database servers of its own, measures Reefknot on each, and stops them.

Every word goes to ``reefknot bench`` (see its ``--help``); without ``--rows`` and ``--store`` all
stores are measured. Only the servers that the wanted rows need are started, on free ports and in
temporary directories (under ``TMPDIR``, which must be on a disk). A server that is not installed is
named and left out.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn, Protocol

from reefknot.bench.rows import Plan, Storage
from reefknot.bench.selection import ON_REQUEST, choose
from reefknot.cli import main as reefknot
from reefknot.testing.databases import mariadb, postgres, redis
from reefknot.testing.databases.mariadb import MariaDbServer
from reefknot.testing.databases.postgres import PostgresServer
from reefknot.testing.databases.redis import RedisCluster, RedisServer

#: The stores without a server, and their rows if none are asked for.
EMBEDDED = {"memory": ("saga/*", "wait/1", "memory"), "sqlite": ("*",)}


class DatabaseServer(Protocol):
    """A server that runs."""

    @property
    def url(self) -> str:
        """The store in it."""
        ...

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        ...


class Database(NamedTuple):
    """A database server to measure: how to make it, where its program is, and its rows if none are asked for."""

    make: Callable[[], AbstractContextManager[DatabaseServer]]
    program: Callable[[], str | Path | None]
    rows: tuple[str, ...]


ALL_BUT_NODES = ("saga/*", "wait/1", "claims")
#: What the servers' own defaults are is written out where a figure depends on it.
DATABASES = {
    "postgres": Database(
        lambda: PostgresServer(settings={"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}),
        lambda: (folder := postgres.find_programs()) and folder / "postgres",
        ("*",),
    ),
    "mariadb": Database(
        lambda: MariaDbServer(settings={"innodb_flush_log_at_trx_commit": "1"}),
        lambda: (mariadb.find_programs() or {}).get("mariadbd"),
        ALL_BUT_NODES,
    ),
    "redis-always": Database(lambda: RedisServer("always"), redis.find_program, ALL_BUT_NODES),
    "redis-off": Database(lambda: RedisServer("off"), redis.find_program, ALL_BUT_NODES),
    "redis-cluster-1": Database(lambda: RedisCluster(1), redis.find_program, ("saga/64",)),
    "redis-cluster-2": Database(lambda: RedisCluster(2), redis.find_program, ("saga/64",)),
    "redis-cluster-3": Database(lambda: RedisCluster(3), redis.find_program, ("saga/64",)),
}


def main(words: Sequence[str]) -> int:
    """Run the benchmark that the words ask for and return the exit code."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--rows", action="append", default=[])
    parser.add_argument("--store", action="append", default=[])
    known, rest = parser.parse_known_args(words)
    names = known.store or [*EMBEDDED, *DATABASES]
    rows = known.rows or [row for name in names for row in rows_of(name)]
    rest += [word for row in rows for word in ("--rows", row)]
    if "--list" in rest and not known.rows:
        rest += [word for row in ON_REQUEST for word in ("--rows", row)]
    if {"-h", "--help"} & set(rest):
        return reefknot(["bench", *rest])
    with ExitStack() as servers:
        for name in names:
            if name not in DATABASES:
                rest += ["--store", name]
            elif "--list" in rest:
                rest += ["--store", f"{name}=none://"]
            elif wanted(name, rows):
                rest += started(servers, name, DATABASES[name])
        if "--store" not in rest:
            sys.stderr.write("nothing to measure\n")
            return 1
        return reefknot(["bench", *rest])


def rows_of(store: str) -> list[str]:
    """The rows of a store if none are asked for."""
    name = store.partition("=")[0]
    rows = DATABASES[name].rows if name in DATABASES else EMBEDDED.get(name, ("*",))
    return [f"{name}/{row}" for row in rows]


def wanted(name: str, rows: Sequence[str]) -> bool:
    """Whether a row of this store, or its ceiling, is asked for."""
    plan = Plan(0.0, 0.0, Path(tempfile.gettempdir()))
    return any(row.startswith(f"{name}/") for row, _ in choose(plan, [Storage(name, "none://")], rows))


def started(servers: ExitStack, name: str, database: Database) -> list[str]:
    """Start a server; the words that tell the benchmark about it, or why it is left out."""
    sys.stderr.write(f"starting {name}\n")
    try:
        server = servers.enter_context(database.make())
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"{name} is left out: {error}\n")
        return ["--left-out", f"{name}: {str(error).splitlines()[0]}"]
    # PostgreSQL's first process stands for all; a cluster's masters are one each.
    pids = server.pids[:1] if isinstance(server, PostgresServer) else server.pids
    words = ["--store", f"{name}={server.url}", *(word for pid in pids for word in ("--store-pid", f"{name}={pid}"))]
    return [*words, "--server", version_of(Path(str(database.program())))]


def version_of(program: Path) -> str:
    """What a server's program says about its version."""
    command = [str(program), "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the server's own program
    return told.stdout.partition("\n")[0].removeprefix(f"{program.parent}/")


def stop(signum: int, _: FrameType | None) -> NoReturn:
    """Leave through every ``with``, so that no server stays."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
