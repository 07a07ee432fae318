# Written by scripts/twins.py from src/reefknot/client/_async/saga.py: change that file, then `make twins`.
"""Saga: steps that are done one after another, and undone in reverse if one is refused."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from reefknot.client._sync.server import Server
from reefknot.client._sync.submitting import submit
from reefknot.client.branches import checked_url, is_grpc
from reefknot.client.building import Step, places_of, saga_custom_data, wire_protocol
from reefknot.client.options import TransactionOptions
from reefknot.client.payload import encode
from reefknot.client.values import Outcome, TransactionMessage
from reefknot.errors import Invalid


class Saga:
    """A saga that is being built. Made by ``Client.saga``.

        with client.saga() as saga:
            saga.step("http://bank/out", "http://bank/out/undo", {"amount": 30})
            saga.step("http://bank/in", "http://bank/in/undo", {"amount": 30})

    The end of the block submits it; a block that raises sends nothing.

    Attributes:
        gid: its id.
        outcome: what submit returned; None before.
    """

    def __init__(self, server: Server, gid: str, options: TransactionOptions, *, concurrent: bool) -> None:
        self.gid = gid
        self.outcome: Outcome | None = None
        self._server = server
        self._options = options
        self._concurrent = concurrent
        self._steps: list[Step] = []
        self._payloads: list[bytes] = []

    def step(self, action: str, undo: str = "", data: Any = None, *, after: Step | Iterable[Step] = ()) -> Step:
        """Add a step.

        Args:
            action: the URL that does it: ``http(s)://…``, or ``host:port/Service/Method`` for gRPC.
            undo: the URL that undoes it; called with the same data. Leave it out if nothing is to be undone.
            data: the payload of both; see ``reefknot.client.payload``.
            after: steps that must succeed first, in a saga with ``concurrent=True``. Otherwise all steps
                run one after another anyway.

        Returns:
            The step, to be named in the ``after`` of another one.

        Raises:
            Invalid: a URL is none, a step is not one of this saga, or the data cannot be encoded.
        """
        if self.outcome is not None:
            raise Invalid("step", f"saga {self.gid} is submitted already", "make another saga")
        checked_url("action", action, grpc_server=True)
        if undo:
            checked_url("undo", undo, grpc_server=True)
        step = Step(len(self._steps), action, undo, places_of(after, self._steps))
        payload = encode(data, binary=is_grpc(action))
        self._steps.append(step)
        self._payloads.append(payload)
        return step

    def add(self, action: str, compensate: str, data: Any = None) -> Self:
        """Add a step, in the spelling of DTM's clients; returns the saga itself."""
        self.step(action, compensate, data)
        return self

    def submit(self) -> Outcome:
        """Submit it. Safe to repeat after ``OutcomeUnknown``: the same saga is not started twice.

        Returns:
            ``submitted``; ``succeed`` with ``wait=True``.

        Raises:
            RolledBack, Ongoing: with ``wait=True``, how it ended or that it has not.
            OutcomeUnknown: no clear answer: it may be running.
            GidConflict, Refused: the gid is in use.
            ServerUnavailable: nothing was sent.
        """
        urls = [url for step in self._steps for url in (step.action, step.undo)]
        message = TransactionMessage(
            self.gid,
            "saga",
            tuple({"action": step.action, "compensate": step.undo} for step in self._steps),
            tuple(self._payloads),
            protocol=wire_protocol(self._server.address, urls),
            custom_data=saga_custom_data(self._steps, concurrent=self._concurrent),
            options=self._options,
            concurrent=self._concurrent and self._server.address.protocol != "grpc",
        )
        self.outcome = submit(self._server, message)
        return self.outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.outcome is None:
            self.submit()
