"""Two-phase message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from reefknot.client import Msg as SdkMsg
from reefknot.client._sync.submitting import submit
from reefknot.client.payload import encode
from reefknot.client.values import TransactionMessage
from reefknot.compat.dtmcli.barrier import BranchBarrier
from reefknot.compat.dtmcli.servers import client_of, note_spelling, old_errors
from reefknot.compat.dtmcli.transbase import TransBase


class Msg:
    """A message that is being built.

    Args:
        dtmUrl: the server, with ``/api/dtmsvr``.
        gid: its id.
    """

    def __init__(self, dtmUrl: str, gid: str) -> None:
        note_spelling("msg.Msg(dtm, gid)", "Client(url).msg(gid)")
        self.dtm = dtmUrl
        self.trans_base: TransBase = TransBase(gid, "msg")

    def add(self, body: Any, actionUrl: str) -> Self:
        """Add a receiver; the body comes first.

        Raises:
            Invalid: the body cannot be encoded.
        """
        self.trans_base.payloads.append(encode(body).decode())
        self.trans_base.steps.append({"action": actionUrl})
        return self

    def set_wait_result(self) -> Self:
        """Let ``submit`` return only when the message is delivered."""
        self.trans_base.wait_result = True
        return self

    def prepare(self, query_prepared: str | None) -> None:
        """Store it without sending.

        Args:
            query_prepared: the URL that the server asks if it is neither submitted nor aborted in time.

        Raises:
            DTMFailureError: it is decided already.
            OutcomeUnknown: no clear answer.
            ServerUnavailable: nothing was sent.
        """
        if query_prepared:
            self.trans_base.query_prepared = query_prepared
        with old_errors():
            client_of(self.dtm).server.prepare(self._message())

    def submit(self) -> None:
        """Send it. Safe to repeat after ``OutcomeUnknown``.

        Raises:
            DTMFailureError: the server refused it.
            Ongoing: with ``set_wait_result``, that it is not delivered yet.
            OutcomeUnknown: no clear answer: it may be on its way.
            ServerUnavailable: nothing was sent.
        """
        with old_errors():
            submit(client_of(self.dtm).server, self._message())

    def do_and_submit_db(self, query_prepared: str, conn: Any, busi_call: Callable[[Any], Any]) -> None:
        """Do a local transaction and send the message, both or neither.

        Args:
            query_prepared: the URL that the server asks.
            conn: a cursor of any DB-API library the barrier knows.
            busi_call: is called with the cursor, inside the transaction.

        Raises:
            Exception: as ``do_and_submit``.
        """
        self.do_and_submit(query_prepared, lambda barrier: barrier.call(conn, busi_call))

    def do_and_submit(self, query_prepared: str, busi_call: Callable[[BranchBarrier], Any]) -> None:
        """The same with a function that leads the local transaction itself, by the barrier's ``call``.

        Args:
            query_prepared: the URL that the server asks.
            busi_call: gets the message's barrier. ``DTMFailureError`` from it means that nothing was committed;
                after any other error ``query_prepared`` is asked.

        Raises:
            Exception: what ``busi_call`` raised, in any case; a note says what became of the message.
        """
        base = self.trans_base
        message = SdkMsg(
            client_of(self.dtm).server,
            base.gid,
            base.options(),
            custom_data=base.custom_data or "",
            concurrent=base.concurrent,
        )
        for step, payload in zip(base.steps, base.payloads, strict=True):
            message.send(step["action"], payload.encode())
        base.query_prepared = query_prepared
        barrier = BranchBarrier(base.trans_type, base.gid, "00", "msg")
        with old_errors():
            message.do_and_submit(query_prepared, lambda _: busi_call(barrier))

    def _message(self) -> TransactionMessage:
        base = self.trans_base
        return TransactionMessage(
            base.gid,
            base.trans_type,
            tuple(base.steps),
            tuple(payload.encode() for payload in base.payloads),
            query_prepared=base.query_prepared or "",
            protocol=base.protocol or "",
            custom_data=base.custom_data or "",
            options=base.options(),
            concurrent=base.concurrent,
        )
