"""Several node processes on one machine, sharing a port and a store.

The parent holds the address and starts the workers; each is a whole node of its own that listens on
the same port (``SO_REUSEPORT``: the kernel spreads connections). A worker that dies is started
again; one that cannot start ends all. A signal to stop goes to every worker.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence

_log = logging.getLogger(__name__)

#: Set in a worker's environment; its value is the port, which the parent may have chosen.
WORKER_VARIABLE = "REEFKNOT_WORKER"
#: Pause before a dead worker is started again; a worker that never lives long must not spin.
RESTART_SECONDS = 1.0
LOOK_SECONDS = 0.1
#: What a program exits with that was given settings it cannot use.
USAGE = 2


class Workers:
    """Starts and watches the worker processes.

    Args:
        command: starts one worker.
        count: how many.
        port: where they listen.
    """

    def __init__(self, command: Sequence[str], count: int, port: int) -> None:
        self._command = list(command)
        self._port = port
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._again_at: dict[int, float] = dict.fromkeys(range(1, count + 1), 0.0)
        self._told: set[int] = set()
        self._stopping = False

    def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT.

        Returns:
            0 after a clean stop, otherwise the exit code of the worker that could not start.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._note_stop)
        code = 0
        while self._running or not self._stopping:
            self._start_due()
            self._tell()
            time.sleep(LOOK_SECONDS)
            for number, process in list(self._running.items()):
                ended = process.poll()
                if ended is None:
                    continue
                del self._running[number]
                if ended == USAGE and not self._stopping:
                    code = USAGE
                    self._stopping = True
                elif not self._stopping:
                    _log.error("worker ended, starting it again", extra={"worker": number, "code": ended})
                    self._again_at[number] = time.monotonic() + RESTART_SECONDS
                elif ended not in (0, -signal.SIGTERM) and not code:  # SIGTERM: it had not begun to serve
                    code = 1
        return code

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._again_at.items() if due <= now]:
            if self._stopping:
                return
            del self._again_at[number]
            environment = {**os.environ, WORKER_VARIABLE: str(self._port)}
            self._running[number] = subprocess.Popen(self._command, env=environment)  # noqa: S603 - ourselves

    def _note_stop(self, *_: object) -> None:
        """Only noted here: a signal may come while a worker is started and not yet among the running."""
        self._stopping = True

    def _tell(self) -> None:
        """Once it stops, tell every worker, each once; they drain and release their leases."""
        if self._stopping:
            for number in self._running.keys() - self._told:
                self._told.add(number)
                self._running[number].send_signal(signal.SIGTERM)
