"""Tcc."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reefknot.client.branches import checked_url
from reefknot.client.payload import encode
from reefknot.client.values import Answer, BranchMessage
from reefknot.compat.dtmcli.servers import client_of, note_spelling, old_errors
from reefknot.compat.dtmcli.utils import IdGenerator
from reefknot.errors import Invalid


class Response:
    """What a branch answered, with the names that requests has for it.

    Args:
        answer: the answer.
    """

    def __init__(self, answer: Answer) -> None:
        self.status_code: int = answer.status
        self.content: bytes = answer.body
        self.text: str = answer.body.decode(errors="replace")
        self._answer = answer

    def json(self) -> Any:
        """The body as JSON."""
        return self._answer.json()


class Tcc:
    """A tcc, or one level of it.

    Args:
        dtmUrl: the server, with ``/api/dtmsvr``.
        gid: its id.
        request_timeout: time limit of each try, in seconds; the client's if 0.
        branch_headers: sent with each try.
    """

    def __init__(
        self, dtmUrl: str, gid: str, *, request_timeout: int = 0, branch_headers: Mapping[str, str] | None = None
    ) -> None:
        self.dtm = dtmUrl
        self.gid = gid
        self.id_generator: IdGenerator = IdGenerator()
        self._request_timeout = request_timeout
        self._branch_headers = dict(branch_headers or {})

    def call_branch(self, body: Any, tryUrl: str, confirmUrl: str, cancalUrl: str) -> Response:
        """Register a branch and call its try; the body comes first.

        Raises:
            DTMFailureError: the branch refused, or the transaction is decided already. Let it leave the callback.
            Ongoing, OutcomeUnknown: no answer yet, or no clear one; likewise.
            Invalid: a URL is none, the body cannot be encoded, or the 99 ids are used up.
        """
        fields = {
            "confirm": checked_url("confirmUrl", confirmUrl, grpc_server=False),
            "cancel": checked_url("cancalUrl", cancalUrl, grpc_server=False),
        }
        checked_url("tryUrl", tryUrl, grpc_server=False)
        payload = encode(body)
        server, branch_id = client_of(self.dtm).server, self.id_generator.new_branch_id()
        identity = {"gid": self.gid, "branch_id": branch_id, "trans_type": "tcc", "op": "try"}
        with old_errors():
            server.register(BranchMessage(self.gid, "tcc", branch_id, payload, fields))
            seconds = float(self._request_timeout)
            return Response(
                server.call_branch(tryUrl, payload, identity, headers=self._branch_headers, seconds=seconds)
            )


def tcc_global_transaction(
    dtmUrl: str,
    gid: str,
    tcc_cb: Callable[[Tcc], Any],
    *,
    wait_result: bool = False,
    timeout_to_fail: int = 0,
    request_timeout: int = 0,
    retry_interval: int = 0,
    branch_headers: Mapping[str, str] | None = None,
) -> str:
    """Try branches in a callback; then confirm all, or cancel all if it raises.

    Args:
        dtmUrl: the server, with ``/api/dtmsvr``.
        gid: its id.
        tcc_cb: tries branches with ``call_branch``.
        wait_result: whether this returns only when every branch is confirmed.
        timeout_to_fail: seconds after which the server cancels what is not submitted; 35 if 0.
        request_timeout: time limit of each branch call, in seconds; the server's setting if 0.
        retry_interval: seconds before the first repetition of a call; the server's setting if 0.
        branch_headers: sent with every branch call.

    Returns:
        The gid.

    Raises:
        Exception: what the callback raised, after everything was cancelled; ``DTMFailureError`` for what a branch
            or the server refused. The old client printed it and returned an empty text.
        OutcomeUnknown: whether the submit arrived is not known; nothing is cancelled.
    """
    note_spelling("tcc.tcc_global_transaction(dtm, gid, callback)", "with Client(url).tcc(gid) as tcc: tcc.try_(…)")
    block = client_of(dtmUrl).tcc(
        gid,
        timeout=timeout_to_fail or None,
        request_timeout=request_timeout or None,
        retry_every=retry_interval or None,
        headers=branch_headers,
        wait=wait_result,
    )
    with old_errors(), block:
        tcc_cb(Tcc(dtmUrl, block.gid, request_timeout=request_timeout, branch_headers=branch_headers))
    return block.gid


def tcc_from_req(dtmUrl: str, gid: str, branch_id: str) -> Tcc:
    """Further branches of a tcc, inside of one of its branches.

    Args:
        dtmUrl: the server, which the try is told as the query parameter ``dtm``.
        gid: the query parameter ``gid``.
        branch_id: the query parameter ``branch_id``.

    Raises:
        Invalid: one of them is empty.
    """
    note_spelling("tcc.tcc_from_req(dtm, gid, branch_id)", "Client(url).tcc_from(query)")
    for name, value in (("dtm", dtmUrl), ("gid", gid), ("branch_id", branch_id)):
        if not value:
            raise Invalid(name, "is empty", "pass the query parameters of the try that is served")
    tcc = Tcc(dtmUrl, gid)
    tcc.id_generator = IdGenerator(branch_id)
    return tcc
