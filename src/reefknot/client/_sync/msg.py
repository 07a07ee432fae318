# Written by scripts/twins.py from src/reefknot/client/_async/msg.py: change that file, then `make twins`.
"""Two-phase message: calls that happen if and only if a local transaction commits."""

from __future__ import annotations

from typing import Any, Self

from reefknot.client._sync.server import Server
from reefknot.client._sync.submitting import submit
from reefknot.client.branches import TOPIC_SCHEME, checked_url, is_grpc
from reefknot.client.building import wire_protocol
from reefknot.client.options import TransactionOptions
from reefknot.client.payload import encode
from reefknot.client.values import Outcome, TransactionMessage
from reefknot.errors import Invalid


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
