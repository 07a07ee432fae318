"""FastAPI.

    app = FastAPI()
    install(app)
    app.include_router(asked(engine))

    @app.post("/out")
    async def out(order: Order, barrier: Annotated[AsyncBarrier, Depends(branch)]) -> None:
        async with engine.begin() as connection:
            if await barrier.passes(connection):
                ...

Commit inside the handler, as here. What a dependency does after its ``yield`` happens after the answer,
and the answer 200 says that the work is committed.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from reefknot.contrib import starlette
from reefknot.contrib.starlette import branch, branch_in, branch_of, install, sync_branch, sync_branch_in
from reefknot.workflows import AsyncWorkflows, Workflows

__all__ = ["asked", "branch", "branch_in", "branch_of", "install", "sync_branch", "sync_branch_in", "workflows"]


def asked(source: Any, path: str = "/asked", *, table: str = "", prefix: str = "") -> APIRouter:
    """A router that answers the server's question whether a message's local transaction committed.

    Args:
        source: gives connections to the database of the local transaction; see ``CheckBack``.
        path: where it is; ``ask=`` of the message is its whole URL.
        table: the barrier's table; the usual one if empty.
        prefix: of the barrier's keys in Redis.

    Raises:
        Invalid: connections cannot be got from the source, or the table's name cannot stand in a statement.
    """
    return APIRouter(routes=[starlette.asked(source, path, table=table, prefix=prefix)])


def workflows(flows: Workflows | AsyncWorkflows, path: str = "/workflow") -> APIRouter:
    """A router by which the server resumes workflows.

    Args:
        flows: the workflows of this program; sync ones run in threads.
        path: where it is; ``callback=`` of the workflows is its whole URL.
    """
    return APIRouter(routes=[starlette.workflows(flows, path)])
