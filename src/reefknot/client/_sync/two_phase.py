# Written by scripts/twins.py from src/reefknot/client/_async/two_phase.py: change that file, then `make twins`.
"""What tcc and xa have in common: prepared by the block's begin, decided by its end."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from reefknot.client._sync.server import Server
from reefknot.client._sync.submitting import submit
from reefknot.client.answers import reason_of
from reefknot.client.branches import BranchIds
from reefknot.client.building import wire_protocol
from reefknot.client.options import TransactionOptions
from reefknot.client.values import Outcome, TransactionMessage
from reefknot.errors import ReefknotError

_log = logging.getLogger("reefknot.client")


class TwoPhase:
    """A transaction whose block decides: leaving it submits, an exception aborts and goes on.

    If nobody can say whether the submit arrived, nothing more is sent: ``OutcomeUnknown``.

    Attributes:
        gid: its id.
        outcome: what submit returned; None before, and after an abort.
    """

    trans_type = ""

    def __init__(self, server: Server, gid: str, options: TransactionOptions) -> None:
        self.gid = gid
        self.outcome: Outcome | None = None
        self._server = server
        self._options = options
        self._ids = BranchIds()

    def __enter__(self) -> Self:
        self._server.prepare(self._message())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.outcome = submit(self._server, self._message())
        else:
            self._abort(error)

    def _abort(self, error: BaseException) -> None:
        """Roll it back; the error goes on, with a note if the abort could not be told."""
        try:
            self._server.abort(self._message(reason_of(error)))
        except ReefknotError as problem:
            note = f"{self.trans_type} {self.gid}: the abort was not confirmed ({problem.what})"
            note += "; the server rolls it back when its time limit is over"
            error.add_note(note)
            _log.warning("%s", note)

    def _message(self, reason: str = "") -> TransactionMessage:
        return TransactionMessage(
            self.gid,
            self.trans_type,
            protocol=wire_protocol(self._server.address, ()),
            options=self._options,
            reason=reason,
        )
