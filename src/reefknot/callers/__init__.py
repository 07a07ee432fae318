"""How branches are called: one module for each protocol, found by its name.

A module of this package that defines ``caller(settings)`` is a caller; nothing has to be
registered. Which of them serves a branch is the callers' own answer (``Caller.accepts``).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from reefknot.callers.base import BranchCall, Caller, CallerSettings
from reefknot.model import Outcome, Unknown
from reefknot.wire.outcome import reason_text

#: URLs whose caller is remembered.
_SERVED_MOST = 4_096


class Callers:
    """All callers of a server.

    Args:
        callers: asked in this order; the first that accepts a URL serves it.
    """

    def __init__(self, callers: Sequence[Caller]) -> None:
        self._callers = tuple(callers)
        #: Which caller serves a URL that was called before; asked twice per transaction at least.
        self._served: dict[tuple[str, str], Caller] = {}

    def for_call(self, protocol: str, url: str) -> Caller | None:
        """The caller that serves a non-empty URL in a transaction of this protocol, if there is one."""
        for caller in self._callers:
            if caller.accepts(protocol, url):
                return caller
        return None

    def check(self, protocol: str, url: str) -> str:
        """What is wrong with a URL, in words; empty if it can be called. An empty URL is fine."""
        if not url:
            return ""
        caller = self.for_call(protocol, url)
        if caller is None:
            return f"no installed caller takes a {protocol} branch with a URL like {reason_text(url, 200)!r}"
        return caller.check(url)

    async def call(self, call: BranchCall) -> Outcome:
        """Call the branch once with the caller that serves its URL; see ``Caller.call``."""
        caller = self._served.get((call.protocol, call.url))
        if caller is None:
            caller = self.for_call(call.protocol, call.url)
            if caller is None:
                return Unknown(reason_text(self.check(call.protocol, call.url) or "there is no URL"), unreachable=True)
            if len(self._served) >= _SERVED_MOST:
                self._served.clear()
            self._served[call.protocol, call.url] = caller
        return await caller.call(call)

    async def close(self) -> None:
        """Close idle connections of all callers; calls in flight end by themselves."""
        for caller in self._callers:
            await caller.close()


def discover(settings: CallerSettings) -> Callers:
    """Make every caller that this package has a module for.

    Args:
        settings: what each of them is built from.
    """
    found: list[Caller] = []
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        make = getattr(module, "caller", None)
        if make is not None:
            found.append(make(settings))
    return Callers(found)
