"""The client: starts transactions and looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from reefknot.client._async.msg import AsyncMsg
from reefknot.client._async.routing import AsyncRouting
from reefknot.client._async.saga import AsyncSaga
from reefknot.client._async.server import AsyncServer
from reefknot.client._async.tcc import AsyncTcc, AsyncTccBranches
from reefknot.client._async.waiting import wait_for
from reefknot.client._async.xa import AsyncXa
from reefknot.client.address import parse
from reefknot.client.ambient import trace_headers
from reefknot.client.branches import BranchIds
from reefknot.client.building import msg_custom_data, parent_of
from reefknot.client.environment import AsyncTime, gid_source, server_url
from reefknot.client.exchange import AsyncTransport
from reefknot.client.options import Seconds, TransactionOptions, seconds, transaction_options
from reefknot.client.protocols.base import Verb
from reefknot.client.values import Page, Transaction
from reefknot.model import Status

#: Seconds after which a request is given up, unless the caller says otherwise.
DEFAULT_TIMEOUT = 10.0
PAGE_DEFAULT = 100


class AsyncClient:
    """Starts transactions and looks at them.

        async with AsyncClient("http://127.0.0.1:36789") as client:
            async with client.saga() as saga:
                saga.step("http://bank/out", "http://bank/out/undo", {"amount": 30})

    Make one and share it: it keeps its connections. Nothing is connected before the first request.

    Args:
        url: the server: ``http(s)://host[:port]`` (HTTP), ``…/api/json-rpc`` (JSON-RPC), ``grpc://host:port``
            or ``grpcs://host:port`` (gRPC). Without one, the environment variable ``DTM_SERVER``, or else
            ``http://127.0.0.1:36789``.
        headers: sent with every request to the server, for example ``{"authorization": …}``.
        timeout: time limit of each request, in seconds or as a timedelta.
        transport: carries HTTP requests to the server instead of aiohttp; see ``reefknot.client.exchange``.
        call_transport: carries HTTP calls of branches; the same as ``transport`` if there is none.

    Raises:
        Invalid: the URL names no server, or the timeout is not positive.
        ConfigError: the URL is for gRPC, and the extra ``grpc`` is not installed.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: Seconds = DEFAULT_TIMEOUT,
        transport: AsyncTransport | None = None,
        call_transport: AsyncTransport | None = None,
    ) -> None:
        self._to_server = AsyncRouting(transport)
        self._to_branches = AsyncRouting(call_transport) if call_transport else self._to_server
        self._gids = gid_source()
        self._time = AsyncTime()
        self.server: AsyncServer = AsyncServer(
            parse(url or server_url()),
            headers=headers or {},
            timeout=seconds("timeout", timeout),
            transport=self._to_server,
            call_transport=self._to_branches,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        await self._to_server.close()
        if self._to_branches is not self._to_server:
            await self._to_branches.close()

    # --- starting -------------------------------------------------------------------------------

    async def new_gid(self) -> str:
        """A gid made by the server. The others are made here, by the same rule, without a request.

        Raises:
            ServerUnavailable: nobody answered, three times.
        """
        return await self.server.new_gid()

    def saga(
        self,
        gid: str | None = None,
        *,
        wait: bool = False,
        concurrent: bool = False,
        timeout: Seconds | None = None,
        request_timeout: Seconds | None = None,
        retry_every: Seconds | None = None,
        retry_limit: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncSaga:
        """A saga: steps that are undone in reverse if one of them is refused.

        Args:
            gid: its id; a new one if there is none. With an id of your own (an order number), a
                repetition of the whole program starts nothing twice.
            wait: whether submit returns only at the end; it then raises ``RolledBack`` if it was undone, and
                ``Ongoing`` after the first call without a clear answer: the server goes on.
            concurrent: whether steps run at the same time, except as their ``after`` says.
            timeout: time limit of the whole saga, after which it is undone; none if not given. Times are
                seconds or a timedelta, rounded up to whole seconds.
            request_timeout: time limit of each branch call.
            retry_every: pause before the first repetition of a call that had no clear answer.
            retry_limit: how often an action is repeated before the saga is undone, from 1; for ever if not given.
            headers: sent with every branch call.

        Raises:
            Invalid: a time is not positive, or the limit negative.
        """
        options = transaction_options(
            wait=wait,
            timeout=timeout,
            request_timeout=request_timeout,
            retry_every=retry_every,
            retry_limit=retry_limit,
            headers=headers,
            trace=trace_headers(),
        )
        return AsyncSaga(self.server, gid or self._gids(), options, concurrent=concurrent)

    def tcc(
        self,
        gid: str | None = None,
        *,
        timeout: Seconds | None = None,
        request_timeout: Seconds | None = None,
        retry_every: Seconds | None = None,
        headers: Mapping[str, str] | None = None,
        wait: bool = False,
    ) -> AsyncTcc:
        """A tcc: branches are tried in the block, then all confirmed, or all cancelled.

        Args:
            gid: its id; a new one if there is none.
            timeout: after this the server cancels what is not submitted (35 s if not given).
            request_timeout: as for ``saga``, also of the try.
            retry_every: as for ``saga``.
            headers: sent with every branch call, the try included.
            wait: whether leaving the block returns only when every branch is confirmed.

        Raises:
            Invalid: a time is not positive.
        """
        options = self._two_phase_options(timeout, request_timeout, retry_every, headers, wait=wait)
        return AsyncTcc(self.server, gid or self._gids(), options)

    def tcc_from(self, values: Mapping[str, str]) -> AsyncTccBranches:
        """Further branches of a tcc, inside of one of its branches.

        Args:
            values: the query parameters or the gRPC metadata of the try that is being served.

        Raises:
            Invalid: they do not name a transaction and a branch.
        """
        gid, branch_id = parent_of(values)
        options = self._two_phase_options(None, None, None, None, wait=False)
        return AsyncTccBranches(self.server, gid, BranchIds(branch_id), options)

    def xa(
        self,
        gid: str | None = None,
        *,
        timeout: Seconds | None = None,
        request_timeout: Seconds | None = None,
        retry_every: Seconds | None = None,
        headers: Mapping[str, str] | None = None,
        wait: bool = False,
    ) -> AsyncXa:
        """An xa transaction: branches prepare in their databases, then all commit, or all roll back.

        Args:
            gid: its id; a new one if there is none.
            timeout: after this the server rolls back what is not submitted (35 s if not given).
            request_timeout: as for ``tcc``.
            retry_every: as for ``saga``.
            headers: as for ``tcc``.
            wait: whether leaving the block returns only when every branch has committed.

        Raises:
            Invalid: a time is not positive.
        """
        options = self._two_phase_options(timeout, request_timeout, retry_every, headers, wait=wait)
        return AsyncXa(self.server, gid or self._gids(), options)

    def msg(
        self,
        gid: str | None = None,
        *,
        delay: Seconds | None = None,
        wait: bool = False,
        concurrent: bool = False,
        timeout: Seconds | None = None,
        request_timeout: Seconds | None = None,
        retry_every: Seconds | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncMsg:
        """A message: calls that are repeated until they succeed, all together with a local transaction.

        Args:
            gid: its id; a new one if there is none.
            delay: how long after submit it is sent.
            wait: whether submit returns only when it is delivered.
            concurrent: whether the receivers are called at the same time; not over gRPC.
            timeout: after this the server asks back about a message that was prepared and not submitted.
            request_timeout: as for ``saga``.
            retry_every: as for ``saga``.
            headers: as for ``saga``.

        Raises:
            Invalid: a time is not positive.
        """
        options = self._two_phase_options(timeout, request_timeout, retry_every, headers, wait=wait)
        custom_data = msg_custom_data(delay)
        return AsyncMsg(self.server, gid or self._gids(), options, custom_data=custom_data, concurrent=concurrent)

    # --- looking --------------------------------------------------------------------------------

    async def get(self, gid: str) -> Transaction | None:
        """A transaction with its branches, or None if there is none.

        Raises:
            ServerUnavailable: no clear answer.
            Invalid: a DTM server over gRPC, which cannot be asked.
        """
        return await self.server.get(gid)

    async def query(
        self, *, status: Status | str = "", mode: str = "", limit: int = PAGE_DEFAULT, position: str = ""
    ) -> Page:
        """Transactions, newest first, without their branches.

        Args:
            status: only these; all if empty.
            mode: only these: ``saga``, ``msg``, ``tcc``, ``xa``, ``workflow``; all if empty.
            limit: the most on one page, up to 1,000.
            position: the ``position`` of the page before.

        Raises:
            ServerUnavailable: no clear answer.
            Invalid: the position is none that was handed out.
        """
        fields = {"status": str(status), "transType": mode, "limit": str(limit), "position": position}
        return await self.server.list({name: value for name, value in fields.items() if value})

    async def wait(self, gid: str, timeout: Seconds = 30.0) -> Transaction:  # noqa: ASYNC109 - the server waits too
        """Wait until a transaction has ended.

        Args:
            gid: its id.
            timeout: the longest wait, in seconds or as a timedelta.

        Returns:
            It, ``succeed`` or ``failed``.

        Raises:
            Ongoing: it has not ended in this time.
            NotFound: there is none.
            ServerUnavailable: no clear answer.
        """
        return await wait_for(self.server, gid, seconds("timeout", timeout), self._time)

    # --- operating ------------------------------------------------------------------------------

    async def force_stop(self, gid: str) -> None:
        """End a transaction as failed without calling any branch: what was done stays done.

        Raises:
            NotFound: there is none.
            Refused: it has ended already.
            OutcomeUnknown: no clear answer.
        """
        await self.server.tell(Verb.FORCE_STOP, {"gid": gid})

    async def retry_now(self, gid: str) -> None:
        """Try a transaction again now instead of when it is due.

        Raises:
            NotFound: there is none.
        """
        await self.server.tell(Verb.RETRY_NOW, {"gid": gid})

    async def subscribe(self, topic: str, url: str, remark: str = "") -> None:
        """Add a subscriber to a topic; the topic is made with its first one. May be repeated.

        Args:
            topic: its name.
            url: what is called for each message, as in ``msg().send``.
            remark: for whoever looks at the topic.

        Raises:
            OutcomeUnknown: no clear answer.
        """
        await self.server.subscribe(topic, url, remark)

    async def unsubscribe(self, topic: str, url: str) -> None:
        """Remove a subscriber from a topic.

        Raises:
            NotFound: there is no such topic, or it has no such subscriber.
            OutcomeUnknown: no clear answer.
        """
        await self.server.tell(Verb.UNSUBSCRIBE, {"topic": topic, "url": url})

    def _two_phase_options(
        self,
        timeout: Seconds | None,
        request_timeout: Seconds | None,
        retry_every: Seconds | None,
        headers: Mapping[str, str] | None,
        *,
        wait: bool,
    ) -> TransactionOptions:
        return transaction_options(
            wait=wait,
            timeout=timeout,
            request_timeout=request_timeout,
            retry_every=retry_every,
            headers=headers,
            trace=trace_headers(),
        )
