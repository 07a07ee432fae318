# Written by scripts/twins.py from src/reefknot/client/_async/msg.py: change that file, then `make twins`.
"""Two-phase message: calls that happen if and only if a local transaction commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from reefknot.client._sync.server import Server
from reefknot.client._sync.submitting import submit
from reefknot.client.branches import TOPIC_SCHEME, checked_url, is_grpc
from reefknot.client.building import wire_protocol
from reefknot.client.options import TransactionOptions
from reefknot.client.payload import encode
from reefknot.client.values import Outcome, TransactionMessage
from reefknot.errors import Invalid

if TYPE_CHECKING:
    from reefknot.barrier import Barrier
    from reefknot.client._sync.committing import Committing

Connection = TypeVar("Connection")
Result = TypeVar("Result")


class Msg:
    """A message that is being built. Made by ``Client.msg``.

        client.msg().send("http://bank/in", {"amount": 30}).submit()

    Attributes:
        gid: its id.
        outcome: what submit returned; None before.
    """

    def __init__(
        self, server: Server, gid: str, options: TransactionOptions, *, custom_data: str, concurrent: bool
    ) -> None:
        self.gid = gid
        self.outcome: Outcome | None = None
        self._server = server
        self._options = options
        self._custom_data = custom_data
        self._concurrent = concurrent
        self._actions: list[str] = []
        self._payloads: list[bytes] = []
        self._ask = ""

    def send(self, url: str, data: Any = None) -> Self:
        """Add a receiver.

        Args:
            url: ``http(s)://…``, or ``host:port/Service/Method`` for gRPC.
            data: the payload; see ``reefknot.client.payload``.

        Raises:
            Invalid: the URL is none, or the data cannot be encoded.
        """
        return self._add(checked_url("url", url, grpc_server=True), data)

    def publish(self, topic: str, data: Any = None) -> Self:
        """Add every subscriber that the topic has when the message is prepared or submitted.

        Args:
            topic: its name.
            data: the payload; see ``reefknot.client.payload``.

        Raises:
            Invalid: there is no name, or the data cannot be encoded.
        """
        if not topic:
            raise Invalid("topic", "is empty", "give the topic's name")
        return self._add(f"{TOPIC_SCHEME}{topic}", data)

    def add(self, action: str, data: Any = None) -> Self:
        """Add a receiver, in the spelling of DTM's clients."""
        return self.send(action, data)

    def prepare(self, ask: str) -> None:
        """Store it without sending. If it is neither submitted nor aborted in time, the server asks.

        Args:
            ask: the URL that is asked whether the local transaction committed: 200 sends the message, 409
                drops it.

        Raises:
            Invalid: there is nobody to ask.
            Refused: it is decided already; ``GidConflict`` if the gid has other content.
            OutcomeUnknown: no clear answer. Nothing is sent unless ``ask`` says so.
            ServerUnavailable: nothing was sent.
        """
        self._ask = checked_url("ask", ask, grpc_server=self._server.address.protocol == "grpc")
        self._server.prepare(self._message())

    def submit(self) -> Outcome:
        """Send it. Safe to repeat after ``OutcomeUnknown``: the same message is not started twice.

        Returns:
            ``submitted``; ``succeed`` with ``wait=True``.

        Raises:
            RolledBack, Ongoing: with ``wait=True``, that it was dropped, or is not delivered yet.
            OutcomeUnknown: no clear answer: it may be on its way.
            GidConflict, Refused: the gid is in use.
            ServerUnavailable: nothing was sent.
        """
        self.outcome = submit(self._server, self._message())
        return self.outcome

    def abort(self, reason: str = "") -> None:
        """Drop a prepared message.

        Args:
            reason: why, in words.

        Raises:
            Refused: it is submitted already.
            NotFound: it was never prepared.
        """
        self._server.abort(self._message(reason))

    def committing(self, connection: Connection, *, ask: str, table: str = "") -> Committing[Connection]:
        """Send it if and only if a local transaction commits.

            with client.msg().send("http://bank/in", {"amount": 30}).committing(conn, ask=ASK) as tx:
                tx.execute("update account set balance = balance - 30 where id = 1")

        Entering begins the local transaction, prepares the message and writes the barrier's row; leaving
        commits and submits. What the block raises rolls back, drops the message, and goes on. If the process
        dies, or if nobody can say whether the commit happened, the server asks ``ask``.

        A submit without an answer raises nothing: the message is prepared and its row committed, so the server
        delivers it; ``outcome.status`` is then ``prepared``. With ``wait=True`` it raises. What the commit raises
        although it happened (a hook of Django's ``on_commit``) is logged only. Whoever is cancelled while the
        commit is under way hears that; nothing is sent, and the server asks.

        Args:
            connection: of any library the barrier knows, without an open transaction. The block gets it back.
            ask: the URL that the server asks; its handler answers with ``Barrier.asked``.
            table: the barrier's table, if it is not the usual one.

        Raises:
            Refused: the message is decided already.
            OutcomeUnknown: whether the commit happened is not known here; the server will ask.
            LocalTransactionOpen: the connection is inside a transaction.
            BarrierMissing: the barrier's table does not exist.
        """
        from reefknot.client._sync.committing import Committing  # noqa: PLC0415 - the barrier, for who needs it

        return Committing(self, connection, ask, table)

    def do_and_submit(self, ask: str, work: Callable[[Barrier], Result], *, table: str = "") -> Result:
        """The same with a function that leads the local transaction itself, as in DTM's clients.

            msg.do_and_submit(ASK, lambda barrier: barrier.call(conn, pay))

        Args:
            ask: the URL that the server asks.
            work: gets the message's barrier, and commits a local transaction that the barrier's row is part of.
                ``Failure`` from it means that nothing was committed; after any other error ``ask`` is asked.
            table: the barrier's table, if it is not the usual one.

        Returns:
            What ``work`` returned.

        Raises:
            Exception: what ``work`` raised, in any case; a note says what became of the message.
            Invalid: the work returned what has to be awaited first; looked into as what it raises.
            OutcomeUnknown: as ``committing``, with ``wait=True``.
        """
        from reefknot.client._sync.committing import do_and_submit  # noqa: PLC0415 - as above

        return do_and_submit(self, ask, work, table)

    @property
    def waits(self) -> bool:
        """Whether submit waits for the delivery."""
        return self._options.wait

    def ask_back(self, ask: str) -> None:
        """Ask what the server would ask: whether the local transaction committed.

        Raises:
            Failure: it did not and never can.
            ReefknotError: nobody can say.
        """
        identity = {"gid": self.gid, "branch_id": "00", "trans_type": "msg", "op": "msg"}
        headers, seconds = self._options.headers, float(self._options.request_timeout)
        self._server.call_branch(ask, b"", identity, headers=headers, seconds=seconds, get=True)

    def _add(self, action: str, data: Any) -> Self:
        if self.outcome is not None:
            raise Invalid("send", f"msg {self.gid} is submitted already", "make another msg")
        self._payloads.append(encode(data, binary=is_grpc(action)))
        self._actions.append(action)
        return self

    def _message(self, reason: str = "") -> TransactionMessage:
        return TransactionMessage(
            self.gid,
            "msg",
            tuple({"action": action} for action in self._actions),
            tuple(self._payloads),
            query_prepared=self._ask,
            protocol=wire_protocol(self._server.address, [*self._actions, self._ask]),
            custom_data=self._custom_data,
            options=self._options,
            concurrent=self._concurrent,
            reason=reason,
        )
