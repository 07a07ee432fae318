"""A private MySQL server for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from reefknot.testing.databases.mariadb import MariaDbServer, as_user
from reefknot.testing.databases.mariadb import find_programs as find_mariadb
from reefknot.testing.databases.processes import find_bundled, version_of

#: Names the folder with MySQL's ``mysqld``, or a Python package that brings one.
VARIABLE = "TEST_MYSQL"


def find_program() -> Path | None:
    """MySQL's server where the environment variable ``TEST_MYSQL`` says; None if it is not set.

    Raises:
        RuntimeError: the variable is set, and there is no ``mysqld``.
    """
    named = os.environ.get(VARIABLE, "")
    if not named:
        return None
    if (found := find_bundled(named, "mysqld")) is None:
        raise RuntimeError(f"{VARIABLE}={named}: no mysqld there")
    return found


class MySqlServer(MariaDbServer):
    """A MySQL server with its own empty database ``test``; start it with ``with``.

    It is driven with MariaDB's client. Otherwise as ``MariaDbServer``; users log in as MySQL 8 does
    by default, with ``caching_sha2_password``.

    Args:
        settings: as for ``MariaDbServer``.
        program: the path of ``mysqld``; where ``TEST_MYSQL`` says if not given.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None, program: Path | None = None) -> None:
        self._program = program
        super().__init__(settings=settings)

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the program, for example (8, 0, 15)."""
        return version_of(self._programs["mariadbd"])

    def _find_programs(self) -> dict[str, str]:
        server, others = self._program or find_program(), find_mariadb()
        if server is None or others is None:
            raise RuntimeError(f"no MySQL: set {VARIABLE} to the folder with mysqld, and install mariadb-client")
        return {"mariadbd": str(server), "mariadb": others["mariadb"]}

    def _install(self) -> None:
        server = Path(self._programs["mariadbd"])
        self._settings.setdefault("mysqlx", "0")
        command = [str(server), "--no-defaults", "--initialize-insecure", f"--datadir={self._directory / 'data'}"]
        messages = server.parent.parent / "share"  # where an unpacked server has them
        if (messages / "english").is_dir():
            self._settings.setdefault("lc_messages_dir", str(messages))
            command.append(f"--lc-messages-dir={messages}")
        command += as_user()
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the server's program
        if done.returncode:
            raise RuntimeError(f"mysqld --initialize failed: {done.stdout}{done.stderr}")
