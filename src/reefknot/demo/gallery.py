"""The examples: found, run with real servers of their own, copied.

An example is a folder with a ``main.py`` that says in its docstring what it shows and needs::

    \"\"\"Money from one bank to another: FastAPI, SQLAlchemy and PostgreSQL.

    Needs: postgres
    Packages: fastapi, sqlalchemy, asyncpg
    \"\"\"

It is run as a program of its own. Where its servers are stands in the environment: ``DTM_SERVER``, and
``POSTGRES_URL``, ``MARIADB_URL``, ``REDIS_URL``, ``DTM_GRPC_SERVER`` if it needs them.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

import reefknot
from reefknot.errors import ReefknotError
from reefknot.testing.server import ServerProcess

if TYPE_CHECKING:
    from reefknot.testing.databases.mariadb import MariaDbServer
    from reefknot.testing.databases.postgres import PostgresServer

#: In an installed package the examples are inside of it, in a checkout they are beside it.
_PLACES = (Path(reefknot.__file__).parent / "examples", Path(reefknot.__file__).parents[2] / "examples")
#: Short times, so that an example is short; in seconds.
_QUICK = {
    "REEFKNOT_RETRY_INTERVAL": "1",
    "REEFKNOT_RETRY_INTERVAL_MAX": "2",
    "REEFKNOT_LEASE_SECONDS": "2",
    "REEFKNOT_TIMEOUT_TO_FAIL": "5",
}
_LONGEST_SECONDS = 120.0

Tell = Callable[[str], None]


class Example(msgspec.Struct, frozen=True):
    """One example: where it is, what it shows, which servers and packages it needs."""

    name: str
    folder: Path
    title: str
    needs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


class Finished(msgspec.Struct, frozen=True):
    """What running an example came to."""

    exit_code: int
    output: str
    seconds: float
    environment: dict[str, str]


class ExampleError(ReefknotError):
    """An example cannot be run; the text says why."""


def examples() -> dict[str, Example]:
    """Every example, by its name."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    found = sorted(folder.glob("*/main.py")) if folder else []
    return {program.parent.name: _read(program) for program in found}


def _read(program: Path) -> Example:
    text = ast.get_docstring(ast.parse(program.read_text("utf-8"))) or ""
    return Example(
        name=program.parent.name,
        folder=program.parent,
        title=text.partition("\n")[0].rstrip("."),
        needs=_words(text, "Needs"),
        packages=_words(text, "Packages"),
    )


def _words(text: str, title: str) -> tuple[str, ...]:
    line = re.search(rf"^{title}: (.+)$", text, re.MULTILINE)
    return tuple(word.strip() for word in line[1].split(",")) if line else ()


class Servers:
    """Database servers that examples need, started when the first one asks; leaving the block ends them."""

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()
        self._postgres: PostgresServer | None = None
        self._mariadb: MariaDbServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def url(self, need: str) -> tuple[str, str]:
        """An empty database: the name of its environment variable, and its URL.

        Args:
            need: ``postgres``, ``mariadb`` or ``redis``.

        Raises:
            ExampleError: there is no such server on this machine, or none of that name is known.
        """
        try:
            return self._url(need, f"example_{secrets.token_hex(4)}")
        except ModuleNotFoundError as error:
            text = f"a server of {need} needs {error.name}, which is not installed"
            raise ExampleError(text, advice=f"pip install 'reefknot[{need}]'") from error
        except RuntimeError as error:
            raise ExampleError(str(error)) from error

    def _url(self, need: str, name: str) -> tuple[str, str]:
        # Each is imported where it is needed: an example on PostgreSQL wants nothing of Redis.
        match need:
            case "postgres":
                from reefknot.testing.databases.postgres import PostgresServer  # noqa: PLC0415 - as above

                if self._postgres is None:
                    server = PostgresServer(settings={"max_prepared_transactions": "50"})
                    self._postgres = self._running.enter_context(server)
                return "POSTGRES_URL", self._postgres.create_database(name)
            case "mariadb":
                from reefknot.testing.databases.mariadb import MariaDbServer  # noqa: PLC0415 - as above

                if self._mariadb is None:
                    self._mariadb = self._running.enter_context(MariaDbServer())
                return "MARIADB_URL", self._mariadb.create_database(name)
            case "redis":
                from reefknot.testing.databases.redis import RedisServer  # noqa: PLC0415 - as above

                return "REDIS_URL", self._running.enter_context(RedisServer("always")).url
        raise ExampleError(f"no server is known for the need {need!r}")


def run(example: Example, servers: Servers, tell: Tell) -> Finished:
    """Run an example on a server of its own.

    Args:
        example: one of ``examples()``.
        servers: where it gets its databases.
        tell: is called with each line it prints.

    Raises:
        ExampleError: a server or a package that it needs is missing.
    """
    if example.missing:
        raise ExampleError(
            f"{example.name} needs packages that are not installed", advice=f"pip install {' '.join(example.missing)}"
        )
    if "go" in example.needs and shutil.which("go") is None:
        advice = "apt-get install golang-go (1.19 or newer), or see https://go.dev/doc/install"
        raise ExampleError(f"{example.name} needs Go, and there is no go on the PATH", advice=advice)
    started = time.monotonic()
    environment = dict(servers.url(need) for need in example.needs if need not in ("grpc", "go"))
    with tempfile.TemporaryDirectory(prefix=f"reefknot-{example.name}-") as folder:
        store = f"sqlite:///{Path(folder) / 'reefknot.db'}"
        with ServerProcess(store, environment=_QUICK, grpc="grpc" in example.needs) as server:
            environment["DTM_SERVER"] = server.url.removesuffix("/api/dtmsvr")
            environment["DTM_GRPC_SERVER"] = server.grpc_address
            environment["EXAMPLE_FOLDER"] = folder
            code, output = _main(example, environment, tell)
    return Finished(code, output, round(time.monotonic() - started, 1), environment)


def _main(
    example: Example, environment: Mapping[str, str], tell: Tell, seconds: float = _LONGEST_SECONDS
) -> tuple[int, str]:
    lines: list[str] = []
    late = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-u", "main.py"],
        cwd=example.folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as program:

        def end() -> None:
            # With what it has started: any of it could hold the pipe that is read here.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)

        def end_late() -> None:
            late.set()
            end()

        # An example that says nothing and does not end must be ended, too; nobody would look at a clock here.
        watchdog = threading.Timer(seconds, end_late)
        watchdog.start()
        try:
            for line in program.stdout or ():
                lines.append(line)
                tell(line.rstrip("\n"))
            code = program.wait()
        finally:
            watchdog.cancel()
            end()
    if late.is_set():
        raise ExampleError(f"{example.name} did not end within {seconds:.0f} s")
    return code, "".join(lines)
