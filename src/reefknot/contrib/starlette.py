"""Starlette.

app = Starlette(routes=[Route("/out", out, methods=["POST"]), asked(engine)])
install(app)

async def out(request: Request) -> Response:
    barrier = branch(request)
    async with engine.begin() as connection:
        if await barrier.passes(connection):
            ...
    return Response()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reefknot.barrier import AsyncBarrier, Barrier, Branch
from reefknot.client.ambient import Ambient, entered
from reefknot.contrib.answers import Said, no_branch_call, said, unexpected
from reefknot.contrib.checkback import CheckBack
from reefknot.errors import Failure, Invalid, Ongoing
from reefknot.workflows import AsyncWorkflows, Workflows


def install(app: Starlette, *, show_errors: bool = False) -> None:
    """Make the app answer as a branch: ``Failure`` is a 409, ``Ongoing`` a 425; other exceptions stay a 500.

    Calls that the app makes with the SDK while it serves a branch carry that call's trace. An app that is
    mounted inside this one needs its own ``install``.

    Args:
        app: the application; one of FastAPI is one of Starlette.
        show_errors: whether a 500 says the exception's type and text, which the server then keeps with the
            transaction. For an app that only the server can reach.
    """
    app.add_exception_handler(Failure, _answer)
    app.add_exception_handler(Ongoing, _answer)
    if show_errors:
        app.add_exception_handler(Exception, _answer)
    app.add_middleware(AmbientMiddleware)


def branch(request: Request) -> AsyncBarrier:
    """The barrier of the branch call that is served; for another table than the usual one, ``branch_in``.

    Raises:
        HTTPException: 400: the query parameters name no branch.
    """
    return _async_barrier(request, "")


def sync_branch(request: Request) -> Barrier:
    """The same with the sync barrier, for handlers that run in a thread."""
    return _barrier(request, "")


def branch_in(table: str) -> Callable[[Request], AsyncBarrier]:
    """``branch`` with the barrier's rows in this table."""

    def branch_of_table(request: Request) -> AsyncBarrier:
        return _async_barrier(request, table)

    return branch_of_table


def sync_branch_in(table: str) -> Callable[[Request], Barrier]:
    """``sync_branch`` with the barrier's rows in this table."""

    def branch_of_table(request: Request) -> Barrier:
        return _barrier(request, table)

    return branch_of_table


def branch_of(request: Request) -> Branch:
    """Which branch is called, by the query parameters.

    Raises:
        HTTPException: 400: they name no branch.
    """
    try:
        return Branch.from_query(request.query_params)
    except Invalid as error:
        raise HTTPException(400, no_branch_call(error)) from error


def asked(source: Any, path: str = "/asked", *, table: str = "", prefix: str = "") -> Route:
    """A route that answers the server's question whether a message's local transaction committed.

    Args:
        source: gives connections to the database of the local transaction; see ``CheckBack``.
        path: where it is; ``ask=`` of the message is its whole URL.
        table: the barrier's table; the usual one if empty.
        prefix: of the barrier's keys in Redis.

    Raises:
        Invalid: connections cannot be got from the source, or the table's name cannot stand in a statement.
    """
    check_back = CheckBack(source, table=table, prefix=prefix)

    async def answer(request: Request) -> Response:
        try:
            await check_back.answer_async(branch_of(request))
        except (Failure, Ongoing) as error:
            return _response(said(error))
        return Response()

    return Route(path, answer, methods=["GET", "POST"], include_in_schema=False)


def workflows(flows: Workflows | AsyncWorkflows, path: str = "/workflow") -> Route:
    """A route by which the server resumes workflows.

    Args:
        flows: the workflows of this program; sync ones run in threads.
        path: where it is; ``callback=`` of the workflows is its whole URL.
    """

    async def answer(request: Request) -> Response:
        query, body = request.query_params, await request.body()
        if isinstance(flows, Workflows):
            resumed = await run_in_threadpool(flows.handle, query, body)
        else:
            resumed = await flows.handle(query, body)
        return Response(resumed.body, resumed.status, media_type="application/json")

    return Route(path, answer, methods=["GET", "POST"], include_in_schema=False)


class AmbientMiddleware:
    """Enters the ambient transaction of each call; ``install`` adds it.

    Args:
        app: what it stands in front of.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with entered(Ambient.of_call(QueryParams(scope["query_string"]), Headers(scope=scope))):
            await self._app(scope, receive, send)


def _async_barrier(request: Request, table: str) -> AsyncBarrier:
    named = branch_of(request)
    return AsyncBarrier(named.trans_type, named.gid, named.branch_id, named.op, table=table)


def _barrier(request: Request, table: str) -> Barrier:
    named = branch_of(request)
    return Barrier(named.trans_type, named.gid, named.branch_id, named.op, table=table)


def _answer(_: Request, error: Exception) -> Response:
    return _response(said(error) if isinstance(error, Failure | Ongoing) else unexpected(error))


def _response(answer: Said) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), "application/json")
