"""Branches in frameworks, and old programs, as their type checker sees them. Checked by pyright, never run."""

import sqlite3
from typing import Annotated, Any, assert_type

import grpc
import grpc.aio
from fastapi import APIRouter, Depends, FastAPI
from flask import Blueprint, Flask
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reefknot import AsyncBarrier, Barrier, Branch
from reefknot.client.ambient import Ambient, current
from reefknot.compat.dtmcli import msg, saga, tcc, utils
from reefknot.contrib import fastapi, flask, starlette
from reefknot.contrib import grpc as grpc_branches
from reefknot.workflows import AsyncWorkflows, Workflows

OwnBranch = Annotated[AsyncBarrier, Depends(fastapi.branch_in("own.barrier"))]


def connect() -> sqlite3.Connection:
    return sqlite3.connect("bank.db")


def fastapi_app(engine: AsyncEngine, flows: AsyncWorkflows) -> FastAPI:
    app = FastAPI()
    fastapi.install(app, show_errors=True)
    assert_type(fastapi.asked(engine), APIRouter)
    app.include_router(fastapi.workflows(flows))

    @app.post("/out")
    async def out(barrier: Annotated[AsyncBarrier, Depends(fastapi.branch)], own: OwnBranch) -> None:  # pyright: ignore[reportUnusedFunction] - found by its route
        async with engine.begin() as connection:
            assert_type(await barrier.passes(connection) and await own.passes(connection), bool)

    return app


def starlette_app(flows: Workflows) -> Starlette:
    def out(request: Request) -> Response:
        assert_type(starlette.branch(request), AsyncBarrier)
        assert_type(starlette.sync_branch_in("own.barrier")(request), Barrier)
        assert_type(starlette.branch_of(request), Branch)
        return Response()

    assert_type(starlette.asked(connect), Route)
    app = Starlette(routes=[Route("/out", out), starlette.asked(connect, "/asked"), starlette.workflows(flows)])
    starlette.install(app)
    return app


def flask_app(flows: Workflows) -> Flask:
    app = Flask(__name__)
    flask.install(app)
    assert_type(flask.asked(connect), Blueprint)
    app.register_blueprint(flask.workflows(flows))

    @app.post("/out")
    def out() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction] - found by its route
        assert_type(flask.branch(table="own.barrier"), Barrier)
        return {}

    return app


def servicer(request: bytes, context: grpc.ServicerContext) -> bytes:
    assert_type(grpc_branches.branch(context), Barrier)
    return request


async def async_servicer(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
    assert_type(grpc_branches.branch(context, table="own.barrier"), AsyncBarrier)
    return request


handlers: list[grpc.GenericRpcHandler] = [grpc_branches.asked(connect), grpc_branches.async_asked(connect)]
server_interceptors: list[grpc.ServerInterceptor] = [grpc_branches.BranchInterceptor()]
async_server_interceptors: list[grpc.aio.ServerInterceptor] = [grpc_branches.AsyncBranchInterceptor()]


def ambient() -> str:
    now: Ambient = current()
    return now.gid + now.trace.get("traceparent", "")


def old_program(dtm: str) -> str:
    gid: str = utils.gen_gid(dtm)
    saga.Saga(dtm, gid).add({}, "http://a", "http://b").set_concurrent().add_branch_order(1, [0]).submit()
    msg.Msg(dtm, gid).add({}, "http://a").set_wait_result().prepare("http://ask")

    def both(one: tcc.Tcc) -> None:
        answer: Any = one.call_branch({}, "http://t", "http://c", "http://x").json()
        assert answer

    try:
        return tcc.tcc_global_transaction(dtm, gid, both, timeout_to_fail=20)
    except utils.DTMFailureError as error:
        return error.reason
