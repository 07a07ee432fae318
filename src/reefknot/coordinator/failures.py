"""Says in the log which calls fail, why, and when they are repeated.

A call that keeps failing is told at its first failure and whenever the count of its tries has doubled.
What fails at one host is told a few times a minute, however many transactions need that host; what was
left out is counted in the next line about it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from datetime import UTC, datetime

from reefknot.clock import Clock
from reefknot.coordinator.drive import Drive
from reefknot.coordinator.hosts import HOSTS_MOST, host_name
from reefknot.errors import shown_url

_log = logging.getLogger(__name__)

#: Lines about one host in one interval.
LINES_MOST = 10
INTERVAL_SECONDS = 60.0
#: A line tells the beginning of an error; ``query`` shows all that is kept of it.
ERROR_CHARACTERS = 300


class _Told:
    """What was said about one host in the interval that runs, and how much was left out since the last line."""

    __slots__ = ("left_out", "lines", "until")

    def __init__(self) -> None:
        self.lines = 0
        self.until = 0.0
        self.left_out = 0


class Failures:
    """The lines about failed calls of one node.

    Args:
        clock: measures the intervals.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hosts: OrderedDict[str, _Told] = OrderedDict()

    def repeated(self, drive: Drive, next_ms: int) -> None:
        """Tell the failures of a drive whose calls are repeated later, and forget them.

        Args:
            drive: what it has noted.
            next_ms: when they are repeated, in milliseconds since the epoch.
        """
        failed, drive.failed = drive.failed, ()
        for each in failed:
            if each.first or each.tries & (each.tries - 1) == 0:
                fields: dict[str, object] = {
                    "gid": drive.gid,
                    "branch_id": each.op.branch_id,
                    "op": each.op.op,
                    "tries": each.tries,
                    "error": each.error[:ERROR_CHARACTERS],
                    "next_try": datetime.fromtimestamp(next_ms / 1000, UTC).isoformat(timespec="milliseconds"),
                }
                self._tell("call failed", each.op.url, fields)

    def parked(self, drive: Drive, reason: str) -> None:
        """Tell that a transaction is given up until an operator helps.

        Args:
            drive: the transaction, and the failures that led to it.
            reason: why.
        """
        url = drive.failed[0].op.url if drive.failed else drive.s.tx.body.query_prepared
        drive.failed = ()
        fields: dict[str, object] = {"gid": drive.gid, "mode": drive.s.tx.mode, "reason": reason[:ERROR_CHARACTERS]}
        self._tell("transaction parked", url, fields)

    def _tell(self, event: str, url: str, fields: dict[str, object]) -> None:
        told, now = self._of(host_name(url)), self._clock.monotonic()
        if now >= told.until:
            told.lines, told.until = 0, now + INTERVAL_SECONDS
        if told.lines >= LINES_MOST:
            told.left_out += 1
            return
        told.lines += 1
        if url:
            fields["url"] = shown_url(url)
        if told.left_out:
            fields["left_out"] = told.left_out
            told.left_out = 0
        if told.lines == LINES_MOST:
            fields["host_silenced_seconds"] = round(told.until - now)
        _log.warning(event, extra=fields)

    def _of(self, host: str) -> _Told:
        told = self._hosts.get(host)
        if told is None:
            if len(self._hosts) >= HOSTS_MOST:
                self._hosts.popitem(last=False)
            told = self._hosts[host] = _Told()
        return told
