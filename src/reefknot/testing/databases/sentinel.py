"""A private Redis Sentinel for tests: finds a server that died, and puts its replica in charge."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reefknot.testing.databases.processes import free_port
from reefknot.testing.databases.redis import RedisServer, exchange, find_program

_START_SECONDS = 60.0


class RedisSentinel:
    """A sentinel that watches one master under the name ``bank``; start it with ``with``.

    Args:
        master: the server; its replicas are found by asking it.
        master_port: where the sentinel and its clients reach the master, if not at its plain port.
        settings: further lines of the configuration, for example ``{"tls-port": "26380"}``.
    """

    def __init__(self, master: RedisServer, *, master_port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        program = find_program()
        if program is None:
            raise RuntimeError("no Redis: apt-get install redis-server")
        self._program = program
        self._password = master.password
        self.port = free_port()
        self._lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            *(f"{name} {value}" for name, value in (settings or {}).items()),
            f"sentinel monitor bank 127.0.0.1 {master_port or master.port} 1",
            f"sentinel auth-pass bank {master.password}",
            "sentinel down-after-milliseconds bank 500",
            "sentinel failover-timeout bank 3000",
        ]
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The store URL of database 0 of the master."""
        return f"redis+sentinel://:{self._password}@127.0.0.1:{self.port}/bank"

    def command(self, *words: str | bytes | int) -> Any:
        """Run one command and return the answer.

        Raises:
            OSError: the sentinel cannot be reached.
            RuntimeError: it answers with an error.
        """
        return exchange(self.port, [words])[0]

    def replicas(self) -> int:
        """How many replicas of the master it knows."""
        answer = self.command("SENTINEL", "MASTER", "bank")
        return int(dict(zip(answer[::2], answer[1::2], strict=True))[b"num-slaves"])

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="reefknot-sentinel-"))
        file = self._directory / "sentinel.conf"
        file.touch(mode=0o600)
        file.write_text("\n".join([*self._lines, f"dir {self._directory}", ""]))
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the server's own program, no shell
                [self._program, str(file), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                text = log.read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"Sentinel does not start: {text}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the sentinel, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
            shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING") == b"PONG")
        except (OSError, RuntimeError):
            return False
