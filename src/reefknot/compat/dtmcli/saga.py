"""Saga."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import msgspec

from reefknot.client._sync.submitting import submit
from reefknot.client.payload import encode
from reefknot.client.values import TransactionMessage
from reefknot.compat.dtmcli.servers import client_of, note_spelling, old_errors
from reefknot.compat.dtmcli.transbase import TransBase
from reefknot.errors import Invalid


class Saga:
    """A saga that is being built.

    Args:
        dtmUrl: the server, with ``/api/dtmsvr``.
        gid: its id.
    """

    def __init__(self, dtmUrl: str, gid: str) -> None:
        note_spelling("saga.Saga(dtm, gid)", "Client(url).saga(gid)")
        self.dtm = dtmUrl
        self.trans_base: TransBase = TransBase(gid, "saga")
        self.orders: dict[int, list[int]] = {}

    def add(self, body: Any, actionUrl: str, compensateUrl: str) -> Self:
        """Add a step; the body comes first.

        Raises:
            Invalid: the body cannot be encoded.
        """
        self.trans_base.payloads.append(encode(body).decode())
        self.trans_base.steps.append({"action": actionUrl, "compensate": compensateUrl})
        return self

    def add_branch_order(self, branch: int, pre_branches: Iterable[int]) -> Self:
        """Let a step wait for others, in a concurrent saga.

        Args:
            branch: its place, from 0.
            pre_branches: the places of those that must succeed first.
        """
        self.orders[branch] = list(pre_branches)
        return self

    def set_concurrent(self) -> Self:
        """Run the steps at the same time, except as ``add_branch_order`` says."""
        self.trans_base.concurrent = True
        return self

    def build_custom_options(self) -> None:
        """Write the order of the steps into ``trans_base.custom_data``; ``submit`` does it.

        Raises:
            Invalid: a place is none of a step.
        """
        if not self.trans_base.concurrent:
            return
        places = range(len(self.trans_base.steps))
        for branch, before in self.orders.items():
            for place in (branch, *before):
                if place not in places:
                    raise Invalid("add_branch_order", f"there is no step {place}", f"{len(places)} steps, from 0")
        options = {"orders": {str(branch): before for branch, before in self.orders.items()}, "concurrent": True}
        self.trans_base.custom_data = msgspec.json.encode(options).decode()

    def submit(self) -> None:
        """Submit it. Safe to repeat after ``OutcomeUnknown``.

        Raises:
            DTMFailureError: the server refused it; with ``trans_base.wait_result``, also that it was rolled back.
            Ongoing: with ``wait_result``, that it is not finished.
            OutcomeUnknown: no clear answer: it may be running.
            ServerUnavailable: nothing was sent.
        """
        self.build_custom_options()
        base = self.trans_base
        message = TransactionMessage(
            base.gid,
            base.trans_type,
            tuple(base.steps),
            tuple(payload.encode() for payload in base.payloads),
            protocol=base.protocol or "",
            custom_data=base.custom_data or "",
            options=base.options(),
            concurrent=base.concurrent,
        )
        with old_errors():
            submit(client_of(self.dtm).server, message)
