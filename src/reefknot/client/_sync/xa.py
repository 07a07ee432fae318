# Written by scripts/twins.py from src/reefknot/client/_async/xa.py: change that file, then `make twins`.
"""Xa: every branch prepares in its own database; then all are committed, or all are rolled back."""

from __future__ import annotations

from typing import Any

from reefknot.client._sync.two_phase import TwoPhase
from reefknot.client.branches import checked_url, is_grpc
from reefknot.client.payload import encode
from reefknot.client.values import Answer


class Xa(TwoPhase):
    """An xa transaction. Made by ``Client.xa``.

        with client.xa() as xa:
            xa.call("http://bank/out", {"amount": 30})
            xa.call("http://bank/in", {"amount": 30})

    Leaving the block commits every branch. An exception rolls every branch back, and goes on. A submit
    without a clear answer does neither.

    Attributes:
        gid: its id.
        outcome: what submit returned; None before, and after an abort.
    """

    trans_type = "xa"

    def call(self, url: str, data: Any = None) -> Answer:
        """Call a branch. It registers itself with the server and prepares its local transaction.

        Args:
            url: the branch; it is called again to commit or to roll back.
            data: its payload; see ``reefknot.client.payload``.

        Returns:
            What the branch answered.

        Raises:
            Failure: the branch refused. Let it leave the block: everything is rolled back.
            Ongoing, OutcomeUnknown: no answer yet, or no clear one; likewise.
            Invalid: the URL cannot be called, the data cannot be encoded, or the 99 ids are used up.
        """
        checked_url("url", url, grpc_server=self._server.address.protocol == "grpc")
        payload = encode(data, binary=is_grpc(url))
        identity = {"gid": self.gid, "branch_id": self._ids.next(), "trans_type": "xa", "op": "action"}
        headers, seconds = self._options.headers, float(self._options.request_timeout)
        return self._server.call_branch(url, payload, identity, headers=headers, seconds=seconds, phase2_url=url)
