"""Ctrl-C and its relatives, noticed between two steps and never in the middle of one."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

STEP_SECONDS = 0.02


class StoppedError(Exception):
    """The demo was told to stop.

    Args:
        signum: the signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignals:
    """While entered, SIGINT, SIGTERM and SIGHUP only leave a note; ``sleep`` raises it.

    So no signal can come between the start of a child process and its entry in the list of those
    that must be ended, and a second Ctrl-C does not disturb the cleaning up.
    """

    def __init__(self) -> None:
        self._noted = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signum is signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN:
                continue  # started with nohup: the terminal may go
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, _: FrameType | None) -> None:
        self._noted = self._noted or signum

    def sleep(self, seconds: float = STEP_SECONDS) -> None:
        """Wait.

        Raises:
            StoppedError: a signal came, before or meanwhile.
        """
        until = time.monotonic() + seconds
        while not self._noted and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, STEP_SECONDS))
        if self._noted:
            raise StoppedError(self._noted)
