"""Tcc: every branch is tried first; then all are confirmed, or all are cancelled."""

from __future__ import annotations

from typing import Any

from reefknot.client._async.server import AsyncServer
from reefknot.client._async.two_phase import AsyncTwoPhase
from reefknot.client.branches import BranchIds, checked_url, is_grpc
from reefknot.client.options import TransactionOptions
from reefknot.client.payload import encode
from reefknot.client.values import Answer, BranchMessage


class AsyncTccBranches:
    """Tries branches of one level of a tcc. Made by ``AsyncClient.tcc_from`` for a branch that has its own.

    Attributes:
        gid: the transaction.
    """

    def __init__(self, server: AsyncServer, gid: str, ids: BranchIds, options: TransactionOptions) -> None:
        self.gid = gid
        self._server = server
        self._ids = ids
        self._options = options

    async def try_(self, url: str, *, confirm: str, cancel: str, data: Any = None) -> Answer:
        """Register a branch and call its try.

        Args:
            url: the try: ``http(s)://…``, or ``host:port/Service/Method`` with a client for gRPC.
            confirm: called when the block ends.
            cancel: called when the block raises, even if the try never arrived.
            data: the payload of all three; see ``reefknot.client.payload``.

        Returns:
            What the branch answered.

        Raises:
            Failure: the branch refused. Let it leave the block: everything is cancelled.
            Ongoing, OutcomeUnknown: no answer yet, or no clear one; likewise.
            Invalid: a URL cannot be called, the data cannot be encoded, or the 99 ids are used up.
            Refused: the transaction is decided already, for example by its time limit.
        """
        grpc_server = self._server.address.protocol == "grpc"
        checked_url("url", url, grpc_server=True)
        fields = {
            "confirm": checked_url("confirm", confirm, grpc_server=grpc_server),
            "cancel": checked_url("cancel", cancel, grpc_server=grpc_server),
        }
        payload = encode(data, binary=is_grpc(url))
        branch_id = self._ids.next()
        await self._server.register(BranchMessage(self.gid, "tcc", branch_id, payload, fields))
        identity = {"gid": self.gid, "branch_id": branch_id, "trans_type": "tcc", "op": "try"}
        headers, seconds = self._options.headers, float(self._options.request_timeout)
        return await self._server.call_branch(url, payload, identity, headers=headers, seconds=seconds)


class AsyncTcc(AsyncTwoPhase):
    """A tcc. Made by ``AsyncClient.tcc``.

        async with client.tcc() as tcc:
            await tcc.try_("http://bank/hold", confirm="http://bank/take", cancel="http://bank/release", data=order)

    Leaving the block submits: every branch is confirmed. An exception aborts, with its text as the reason:
    every branch is cancelled, and the exception goes on. A submit without a clear answer does neither.

    Attributes:
        gid: its id.
        outcome: what submit returned; None before, and after an abort.
    """

    trans_type = "tcc"

    def __init__(self, server: AsyncServer, gid: str, options: TransactionOptions) -> None:
        super().__init__(server, gid, options)
        self._branches = AsyncTccBranches(server, gid, self._ids, options)

    async def try_(self, url: str, *, confirm: str, cancel: str, data: Any = None) -> Answer:
        """Register a branch and call its try; see ``AsyncTccBranches.try_``."""
        return await self._branches.try_(url, confirm=confirm, cancel=cancel, data=data)
