"""Named places where a test can make the server die, stall or fail.

In production no failpoint is armed: a call site pays for one attribute test
(``if self._fail.armed``). A test arms them through ``REEFKNOT_FAILPOINTS``, a comma list of
``name=action`` or ``name=action@n`` (only the n-th hit), with these actions:

    kill        SIGKILL to this process
    stop        SIGSTOP to this process
    raise       FailpointError
    drop        DropReply: the API closes the connection without an answer
    sleep:S     wait S seconds

``NAMES`` is the whole list; a name that is not in it is refused, and a test checks that each is
hit somewhere in the source.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping

from reefknot.errors import ConfigError

NAMES = frozenset(
    {
        "api.recv",
        "api.validated",
        "api.before_ack",
        "api.after_ack",
        "submit.before_insert",
        "submit.after_insert",
        "prepare.before_insert",
        "prepare.after_insert",
        "register.before_insert",
        "register.after_insert",
        "decide.before_cas",
        "decide.after_cas",
        "call.before_send",
        "call.sent_no_reply",
        "call.reply_before_record",
        "record.before_commit",
        "record.after_commit",
        "group.batch_built",
        "group.batch_committed",
        "group.bisect",
        "saga.before_abort",
        "saga.before_compensate",
        "finish.before",
        "finish.after",
        "claim.selected",
        "claim.committed_not_loaded",
        "claim.loaded",
        "renew.before",
        "renew.after",
        "timeout.detected",
        "msg.before_checkback",
        "msg.after_checkback",
        "workflow.decision_recorded",
        "workflow.callback_sent",
        "topic.refresh",
        "shutdown.before_release",
        "shutdown.released",
        "purge.before_delete",
        "purge.half_deleted",
        "migrate.step",
    }
)


class FailpointError(RuntimeError):
    """Raised by an armed failpoint."""


class DropReply(Exception):
    """Raised by an armed failpoint: close the connection instead of answering."""


class Failpoints:
    """The armed failpoints of one process.

    Args:
        actions: failpoint name to action, as in the module's docstring.

    Raises:
        ConfigError: an unknown name or action.
    """

    def __init__(self, actions: Mapping[str, str] | None = None) -> None:
        self._actions: dict[str, tuple[str, int]] = {}
        self.hits: dict[str, int] = {}
        for name, text in (actions or {}).items():
            if name not in NAMES:
                raise ConfigError(f"unknown failpoint {name!r}")
            action, _, nth = text.partition("@")
            verb = action.partition(":")[0]
            if verb not in ("kill", "stop", "raise", "drop", "sleep") or (nth and not nth.isdecimal()):
                raise ConfigError(f"failpoint {name}: unknown action {text!r}")
            self._actions[name] = (action, int(nth or 0))
        #: Whether any failpoint is armed; a plain attribute, because every step asks.
        self.armed = bool(self._actions)

    @classmethod
    def parse(cls, text: str) -> Failpoints:
        """Read the form of ``REEFKNOT_FAILPOINTS``: ``name=action,name=action@2``."""
        pairs = (part.partition("=") for part in text.split(",") if part.strip())
        return cls({name.strip(): action.strip() for name, _, action in pairs})

    def act(self, name: str) -> float:
        """Count a hit and do what is armed here, in synchronous code.

        Returns:
            Seconds that the caller should wait (the ``sleep`` action), else 0.

        Raises:
            FailpointError: the action is ``raise``.
            DropReply: the action is ``drop``.
        """
        self.hits[name] = self.hits.get(name, 0) + 1
        action, nth = self._actions.get(name, ("", 0))
        if not action or (nth and self.hits[name] != nth):
            return 0.0
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif action == "raise":
            raise FailpointError(name)
        elif action == "drop":
            raise DropReply(name)
        elif action.startswith("sleep:"):
            return float(action.removeprefix("sleep:"))
        return 0.0

    async def hit(self, name: str) -> None:
        """Count a hit and do what is armed here, in a coroutine."""
        if delay := self.act(name):
            await asyncio.sleep(delay)


#: What production code gets: nothing is armed.
def disarmed() -> Failpoints:
    """Failpoints of which none is armed."""
    return Failpoints()
