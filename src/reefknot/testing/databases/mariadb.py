"""A private MariaDB server for tests."""

from __future__ import annotations

import os
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

from reefknot.testing.databases.processes import free_port, freeze

_START_SECONDS = 120.0

#: Directories that hold servers but are not in every user's PATH.
_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/libexec"

_PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb")


def find_programs() -> dict[str, str] | None:
    """The paths of MariaDB's server, installer and client; None if one of them is missing."""
    places = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}"
    found = {name: shutil.which(name, path=places) for name in _PROGRAMS}
    paths = {name: path for name, path in found.items() if path}
    return paths if len(paths) == len(_PROGRAMS) else None


class MariaDbServer:
    """A MariaDB server with its own empty database ``test``; start it with ``with``.

    The server never runs as root: if the test does, it runs as the user ``mysql``.

    Args:
        settings: server settings, for example ``{"default_time_zone": "+08:00"}``.
        password: of the user ``reefknot``; made up if empty.

    Raises:
        RuntimeError: no MariaDB is installed, or it does not start; the text has its log.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None, password: str = "") -> None:
        self._programs = self._find_programs()
        self._settings = dict(settings or {})
        self._password = password or secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = Path()
        self.port = free_port()

    @property
    def url(self) -> str:
        """The store URL of the database ``test``, with its owner's password."""
        return self.url_of("test")

    def url_of(self, database: str) -> str:
        """The store URL of another database of this server."""
        return f"mysql://reefknot:{self._password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create one more empty database; returns its store URL.

        Args:
            name: letters, digits and underscores.
        """
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no name for a database")
        self._run_sql(f"CREATE DATABASE {name}")
        return self.url_of(name)

    @property
    def pids(self) -> list[int]:
        """The process of the server, if it runs."""
        return [self._process.pid] if self._process else []

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="reefknot-mariadb-"))
        try:
            if os.geteuid() == 0:
                shutil.chown(self._directory, "mysql")
            self._fill()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def client_command(self) -> list[str]:
        """A client that runs the SQL of its standard input as the administrator and prints the rows."""
        client = [self._programs["mariadb"], "--no-defaults", "--user=root", f"--socket={self._socket}"]
        return [*client, "--skip-column-names", "--unbuffered"]

    def start(self) -> None:
        """Start the server on its data and return when it takes connections."""
        options = {
            "datadir": str(self._directory / "data"),
            "tmpdir": str(self._directory),
            "socket": str(self._socket),
            "port": str(self.port),
            "bind_address": "127.0.0.1",
            "pid_file": str(self._directory / "pid"),
            "log_error": str(self._log),
            "innodb_buffer_pool_size": "128M",
            **self._settings,
        }
        command = [self._programs["mariadbd"], "--no-defaults", *as_user()]
        command += [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(  # noqa: S603 - the server's own program, no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                log = self._log.read_text("utf-8", "replace") if self._log.exists() else ""
                raise RuntimeError(f"MariaDB does not start: {log[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server, if it runs, and delete its data."""
        self._end(signal.SIGKILL)
        if self._directory.is_absolute():  # it has one once it was started
            shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self, *, kill: bool = False) -> None:
        """Stop the server and start it on the same data and port.

        Args:
            kill: SIGKILL instead of a shutdown.
        """
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def kill(self) -> None:
        """SIGKILL to the server; ``start`` starts it again."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to the server: it keeps its connections and answers nothing."""
        freeze(self.pids)

    def thaw(self) -> None:
        """SIGCONT to the server."""
        self._send(signal.SIGCONT)

    def _find_programs(self) -> dict[str, str]:
        """The paths of the programs by their names."""
        if (programs := find_programs()) is None:
            raise RuntimeError("no MariaDB: apt-get install mariadb-server")
        return programs

    def _fill(self) -> None:
        """Make the data, start the server, create the user and the database."""
        self._install()
        self.start()
        self._run_sql(
            f"CREATE USER 'reefknot'@'%' IDENTIFIED BY '{self._password}'; GRANT ALL ON *.* TO 'reefknot'@'%'"
            " WITH GRANT OPTION"
        )
        self.create_database("test")

    @property
    def _socket(self) -> Path:
        return self._directory / "socket"

    @property
    def _log(self) -> Path:
        return self._directory / "server.err"  # the server adds .err to a name without an ending

    def _install(self) -> None:
        """Make the system tables."""
        command = [self._programs["mariadb-install-db"], "--no-defaults", f"--datadir={self._directory / 'data'}"]
        # Not /tmp: every server that starts deletes what others have in the same one, and the installer breaks off.
        command += [
            f"--tmpdir={self._directory}",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            *as_user(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - as above
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db failed: {done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        try:
            self._run_sql("SELECT 1")
        except subprocess.SubprocessError:
            return False
        return True

    def _run_sql(self, script: str) -> str:
        """Run a script as the administrator; what it printed."""
        done = subprocess.run(  # noqa: S603 - as above
            self.client_command,
            input=script,
            text=True,
            check=True,
            capture_output=True,
            timeout=_START_SECONDS,
        )
        return done.stdout

    def _send(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        self._send(signal.SIGCONT)
        self._send(signum)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._process = None


def as_user() -> list[str]:
    """The server refuses to run as root."""
    return ["--user=mysql"] if os.geteuid() == 0 else []
