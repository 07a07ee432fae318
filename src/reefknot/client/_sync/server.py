# Written by scripts/twins.py from src/reefknot/client/_async/server.py: change that file, then `make twins`.
"""The server as the client sees it: one method for each verb, and calls of branches."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reefknot.client.address import ServerAddress
from reefknot.client.ambient import trace_headers
from reefknot.client.answers import NOT_SENT, branch_answer, branch_unknown, error_of, unanswered, unsent
from reefknot.client.branches import branch_call, is_grpc
from reefknot.client.exchange import Request, Transport
from reefknot.client.protocols.base import SUBSCRIBED_TEXT, Kind, Message, Reply, ServerProtocol, Verb
from reefknot.client.protocols.choose import protocol_for
from reefknot.client.values import Answer, BranchMessage, Page, Transaction, TransactionMessage, WorkflowRecord
from reefknot.errors import ServerUnavailable

_log = logging.getLogger("reefknot.client")

#: How often a new gid is asked for; no other request is ever repeated by itself.
NEW_GID_TRIES = 3


class Server:
    """Says things to the server and calls branches; raises the errors of docs/errors.md.

    Args:
        address: where the server is.
        headers: sent with every request to it.
        timeout: seconds after which a request is given up.
        transport: carries requests to the server.
        call_transport: carries calls of branches.
    """

    def __init__(
        self,
        address: ServerAddress,
        *,
        headers: Mapping[str, str],
        timeout: float,
        transport: Transport,
        call_transport: Transport,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._headers = dict(headers)
        self._transport = transport
        self._call_transport = call_transport
        self._protocol: ServerProtocol = protocol_for(address)

    def new_gid(self) -> str:
        """A gid from the server; asks again if nobody answered, which changes nothing."""
        for attempt in range(1, NEW_GID_TRIES + 1):
            try:
                reply = self._ask(Verb.NEW_GID, {}, "", self.timeout)
                return self._protocol.gid(reply.body)
            except ServerUnavailable:
                if attempt == NEW_GID_TRIES:
                    raise
            except ValueError as error:
                raise unanswered(Verb.NEW_GID, error, "", self.address.url) from error
        raise AssertionError("unreachable")

    def prepare(self, message: TransactionMessage) -> None:
        """Store a transaction that is decided later."""
        self._ask(Verb.PREPARE, message, message.gid, self.timeout)

    def submit(self, message: TransactionMessage, seconds: float) -> Reply:
        """Start a transaction, or decide that a prepared one goes on.

        Args:
            message: what is said.
            seconds: how long to wait for the answer.

        Returns:
            That it was done, or a definite no, whose meaning depends on whether somebody waits.
        """
        reply = self._reply(Verb.SUBMIT, message, message.gid, seconds)
        if reply.kind in {Kind.DONE, Kind.FAILURE}:
            return reply
        raise error_of(Verb.SUBMIT, reply, message.gid, self.address.url)

    def abort(self, message: TransactionMessage) -> None:
        """Decide that a prepared transaction is rolled back."""
        self._ask(Verb.ABORT, message, message.gid, self.timeout)

    def register(self, message: BranchMessage) -> None:
        """Add a branch, or record a workflow's step."""
        self._ask(Verb.REGISTER, message, message.gid, self.timeout)

    def prepare_workflow(self, message: TransactionMessage) -> WorkflowRecord:
        """Store a workflow or find it, with the steps recorded so far."""
        reply = self._ask(Verb.PREPARE_WORKFLOW, message, message.gid, self.timeout)
        try:
            return self._protocol.workflow(reply.body)
        except ValueError as error:
            raise unanswered(Verb.PREPARE_WORKFLOW, error, message.gid, self.address.url) from error

    def get(self, gid: str) -> Transaction | None:
        """A transaction with its branches, or None."""
        reply = self._reply(Verb.GET, {"gid": gid}, gid, self.timeout)
        return self._found(Verb.GET, reply, gid)

    def wait(self, gid: str, seconds: int) -> Transaction | None:
        """The same once it has ended, or as it is when the time is over."""
        reply = self._reply(Verb.WAIT, {"gid": gid, "seconds": str(seconds)}, gid, self.timeout + seconds)
        return self._found(Verb.WAIT, reply, gid)

    def list(self, fields: Mapping[str, str]) -> Page:
        """One page of transactions."""
        reply = self._ask(Verb.LIST, fields, "", self.timeout)
        try:
            return self._protocol.page(reply.body)
        except ValueError as error:
            raise unanswered(Verb.LIST, error, "", self.address.url) from error

    def subscribe(self, topic: str, url: str, remark: str) -> None:
        """Add a subscriber to a topic, unless it is one."""
        fields = {"topic": topic, "url": url, "remark": remark}
        reply = self._reply(Verb.SUBSCRIBE, fields, "", self.timeout)
        if reply.kind is not Kind.DONE and SUBSCRIBED_TEXT not in reply.text:
            raise error_of(Verb.SUBSCRIBE, reply, "", self.address.url)

    def tell(self, verb: Verb, fields: Mapping[str, str]) -> None:
        """Any verb without an answer of its own."""
        self._ask(verb, fields, fields.get("gid", ""), self.timeout)

    def call_branch(
        self,
        url: str,
        payload: bytes,
        identity: Mapping[str, str],
        *,
        headers: Mapping[str, str],
        seconds: float,
        phase2_url: str = "",
        get: bool = False,
    ) -> Answer:
        """Call a branch: the try of a tcc, the call of an xa, the question of a msg.

        Args:
            url: the branch.
            payload: its body or message.
            identity: ``gid``, ``branch_id``, ``trans_type`` and ``op``.
            headers: further headers or metadata.
            seconds: how long to wait for the answer; 0 means as long as for the server's.
            phase2_url: where an xa branch is committed or rolled back.
            get: whether it is only asked, without a body.

        Raises:
            Failure: it refused.
            Ongoing: it is not finished.
            OutcomeUnknown: no clear answer.
            ServerUnavailable: nothing was sent.
        """
        named = {"dtm": self.address.dtm, **identity}
        sent = {**trace_headers(), **headers}
        request = branch_call(url, payload, named, sent, seconds or self.timeout, phase2_url=phase2_url, get=get)
        gid, branch_id = identity["gid"], identity["branch_id"]
        try:
            response = self._call_transport.send(request)
        except NOT_SENT as error:
            raise unsent(f"branch {branch_id}", error, gid, url) from error
        except Exception as error:
            raise branch_unknown(error, gid, branch_id, url) from error
        return branch_answer(response, grpc=is_grpc(url), gid=gid, branch_id=branch_id, url=url)

    def _ask(self, verb: Verb, message: Message, gid: str, seconds: float) -> Reply:
        """The reply, if it says that it was done."""
        reply = self._reply(verb, message, gid, seconds)
        if reply.kind is not Kind.DONE:
            raise error_of(verb, reply, gid, self.address.url)
        return reply

    def _reply(self, verb: Verb, message: Message, gid: str, seconds: float) -> Reply:
        """The reply, whatever it says."""
        trace = trace_headers()
        request: Request = self._protocol.request(
            verb, message, {**trace, **self._headers} if trace else self._headers, seconds
        )
        try:
            response = self._transport.send(request)
        except NOT_SENT as error:
            raise unsent(verb, error, gid, self.address.url) from error
        except Exception as error:
            _log.warning("%s of %s got no answer: %s", verb, gid or "nothing", type(error).__name__)
            raise unanswered(verb, error, gid, self.address.url) from error
        return self._protocol.reply(verb, response)

    def _found(self, verb: Verb, reply: Reply, gid: str) -> Transaction | None:
        if reply.kind is Kind.MISSING:
            return None
        if reply.kind is not Kind.DONE:
            raise error_of(verb, reply, gid, self.address.url)
        try:
            return self._protocol.transaction(reply.body)
        except ValueError as error:
            raise unanswered(verb, error, gid, self.address.url) from error
