"""What scripted business services have in common: answers in store, and a log of every call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec


class LoggedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call as a service saw it; times are on ``time.monotonic``.

    ``ended`` is when the answer was given, 0 while the call is under way.
    """

    path: str
    gid: str
    mode: str
    branch_id: str
    op: str
    body: bytes
    started: float
    ended: float = 0.0


C = TypeVar("C", bound=LoggedCall)
S = TypeVar("S")


class Scripted(Generic[C, S]):
    """Chooses the answer of each call and remembers the calls; for use by many threads.

    Args:
        usual: the answer of every path that was told nothing else.
    """

    def __init__(self, usual: S) -> None:
        self._lock = threading.Lock()
        self._usual = usual
        self._scripts: dict[str, list[S]] = {}
        self._always: dict[str, S] = {}
        self._business: Callable[[C], S | None] = _no_business
        self._handlers: dict[str, Callable[[C], S]] = {}
        self._calls: list[C] = []

    def script(self, path: str, answers: Iterable[S]) -> None:
        """Give these answers to the next calls of a path, then what ``always`` says."""
        with self._lock:
            self._scripts[path] = list(answers)

    def always(self, path: str, answer: S) -> None:
        """Give this answer to every call of a path that has no script left."""
        with self._lock:
            self._always[path] = answer

    def on(self, path: str, handle: Callable[[C], S]) -> None:
        """Let a function answer the calls of a path, in the thread of the call; a script goes first."""
        with self._lock:
            self._handlers[path] = handle

    def business(self, work: Callable[[C], S | None]) -> None:
        """Do this for every call that is about to be answered with success; its answer replaces that one.

        It runs in the thread of the call, so it may block or call the server back.
        """
        self._business = work

    def work(self, call: C) -> S | None:
        """Do the business of a call."""
        return self._business(call)

    @property
    def calls(self) -> list[C]:
        """Every call so far, in order of arrival; a call under way is in it too."""
        with self._lock:
            return list(self._calls)

    def called(self, gid: str = "") -> list[str]:
        """The paths that were called, in order of arrival; of one gid if it is named."""
        return [call.path for call in self.calls if not gid or call.gid == gid]

    def arrived(self, call: C) -> tuple[int, S]:
        """Note a call; its number and the answer it gets."""
        with self._lock:
            self._calls.append(call)
            number = len(self._calls) - 1
            script = self._scripts.get(call.path)
            if script:
                return number, script.pop(0)
            handle = self._handlers.get(call.path)
            if handle is None:
                return number, self._always.get(call.path, self._usual)
        return number, handle(call)

    def ended(self, number: int, status: object) -> None:
        """Note the answer of a call."""
        with self._lock:
            self._calls[number] = msgspec.structs.replace(self._calls[number], ended=time.monotonic(), status=status)


def _no_business(_: object) -> None:
    return None
