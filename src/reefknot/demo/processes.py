"""Child processes that are gone when the demo is, whatever happens to it."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

LOG_TAIL_BYTES = 2_000
#: Below the ports that systems give to outgoing connections: while a service is down, none of
#: those may take its place.
PORTS = range(20_000, 32_000)


class Processes:
    """The child processes, by name. Leaving the ``with`` block ends all of them.

    Each is the leader of a process group of its own: Ctrl-C in the terminal does not reach it,
    and a kill reaches everything it started.

    Args:
        patience_seconds: how long they have in all to follow a SIGTERM before they are killed.
    """

    def __init__(self, patience_seconds: float = 5.0) -> None:
        self._patience_seconds = patience_seconds
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.pids: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start a process; its output is appended to the file ``log``."""
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running[name] = process
        self.pids.append(process.pid)

    def ended(self, name: str) -> int | None:
        """The exit code of a process that ended by itself; None while it runs."""
        return self._running[name].poll()

    def kill(self, name: str) -> None:
        """SIGKILL a process and everything it started, and wait until it is gone."""
        process = self._running.pop(name)
        _signal_group(process, signal.SIGKILL)
        process.wait()

    def stop_all(self) -> None:
        """End every process: SIGTERM, and SIGKILL for what is still there later."""
        for process in self._running.values():
            _signal_group(process, signal.SIGTERM)
        until = time.monotonic() + self._patience_seconds
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        for name in list(self._running):
            self.kill(name)


def _signal_group(process: subprocess.Popen[bytes], signum: signal.Signals) -> None:
    # The group outlives its leader as long as one member does, so the leader's end is no reason to skip it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)


def free_ports(count: int) -> list[int]:
    """Different TCP ports on 127.0.0.1 that nobody uses now.

    Raises:
        OSError: none was found in many tries.
    """
    found: list[int] = []
    for _ in range(1_000):
        port = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
        if len(found) == count:
            return found
    raise OSError("found no free TCP port on 127.0.0.1 between 20000 and 32000")


def log_tail(log: Path) -> str:
    """The end of what a process wrote."""
    with contextlib.suppress(FileNotFoundError):
        return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    return ""
