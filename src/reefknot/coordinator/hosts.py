"""Keeps one participant's trouble to the transactions that need it.

Each host that branches live on has a bulkhead: a cap on calls under way. A host that did not
answer several times in a row is *suspect*: only a few calls at a time go out to it as probes, the
others are turned away at once instead of holding a slot for a timeout. The first answer of any
kind ends the suspicion and wakes the transactions that were turned away.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from reefknot.model import Outcome, Unknown

#: A host is suspect after this many calls in a row without a byte of an answer.
SUSPECT_AFTER = 3
#: Calls under way to a suspect host.
PROBES = 8
#: Transactions remembered for a host, to be woken when it answers again; the others come by their backoff.
WAITING_MOST = 10_000
#: Hosts remembered; an idle one without trouble is forgotten first.
HOSTS_MOST = 4_096


class Host:
    """What is known about one participant's host."""

    __slots__ = ("calls", "queue", "silent", "waiting")

    def __init__(self) -> None:
        self.calls = 0
        self.silent = 0
        self.queue: deque[asyncio.Future[bool]] = deque()
        self.waiting: dict[str, None] = {}

    @property
    def suspect(self) -> bool:
        """Whether it has not answered several times in a row."""
        return self.silent >= SUSPECT_AFTER

    @property
    def idle(self) -> bool:
        """Whether forgetting it loses nothing."""
        return not (self.calls or self.queue or self.waiting or self.silent)


class Hosts:
    """All hosts this node calls.

    Args:
        limit: calls under way to one host.
        wake: called with gids whose host answers again.
    """

    def __init__(self, limit: int, wake: Callable[[tuple[str, ...]], None]) -> None:
        self._limit = limit
        self._wake = wake
        #: The host's name in a URL that was seen.
        self._names: dict[str, str] = {}
        self._hosts: OrderedDict[str, Host] = OrderedDict()

    def of(self, url: str) -> Host:
        """The host of a URL."""
        name = self._names.get(url)
        if name is None:
            name = host_name(url)
            if len(self._names) >= HOSTS_MOST:
                self._names.clear()
            self._names[url] = name
        host = self._hosts.get(name)
        if host is None:
            self._forget()
            host = self._hosts[name] = Host()
        return host

    def _forget(self) -> None:
        while len(self._hosts) >= HOSTS_MOST:
            name = next((name for name, host in self._hosts.items() if host.idle), None)
            if name is None:
                return
            del self._hosts[name]

    async def enter(self, host: Host) -> bool:
        """Wait for a place; False if the host is suspect and has its probes already."""
        if host.suspect:
            if host.calls >= PROBES:
                return False
        elif host.calls >= self._limit:
            turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            host.queue.append(turn)
            try:
                return await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and turn.result():
                    self.leave(host, None)
                raise
        host.calls += 1
        return True

    def leave(self, host: Host, outcome: Outcome | None) -> None:
        """Give the place back with what came of it; None if the call was cancelled."""
        host.calls -= 1
        if isinstance(outcome, Unknown) and outcome.unreachable:
            host.silent += 1
            if host.suspect:
                self._turn_away(host)
        elif outcome is not None:
            recovered = host.suspect
            host.silent = 0
            if recovered and host.waiting:
                woken = tuple(host.waiting)
                host.waiting.clear()
                self._wake(woken)
        while host.queue and not host.suspect and host.calls < self._limit:
            turn = host.queue.popleft()
            if not turn.done():
                host.calls += 1
                turn.set_result(True)

    def wait_for(self, host: Host, gid: str) -> None:
        """Remember a transaction that gave up because this host did not answer."""
        if len(host.waiting) < WAITING_MOST:
            host.waiting[gid] = None

    @staticmethod
    def _turn_away(host: Host) -> None:
        while host.queue:
            turn = host.queue.popleft()
            if not turn.done():
                turn.set_result(False)


def host_name(url: str) -> str:
    """What stands for the participant in a branch URL, so that all its branches have one bulkhead.

    Host and port of ``http://host:port/path`` and of ``host:port/package.Service/Method``. A URL of service
    discovery names the registry where others name the host, so the service behind it counts too:
    ``etcd://registry:2379/bank`` of ``etcd://registry:2379/bank/package.Service/Method``.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url.partition("/")[0]
    if scheme.lower() in ("http", "https"):
        return rest.partition("/")[0]
    return "/".join(url.partition("?")[0].split("/", 4)[:4])
