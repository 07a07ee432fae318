"""Workflows as a user writes them, in both faces. Checked by pyright, never run.

Each ``type: ignore`` is a mistake that the checker must find: one that is not needed is an error.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import sqlite3
from dataclasses import dataclass
from typing import assert_type

from reefknot import AsyncClient, AsyncWorkflow, AsyncWorkflows, Client, Workflow, Workflows, workflow
from reefknot.barrier import AsyncBarrier, Barrier
from reefknot.client import Answer, Response


@dataclass
class Receipt:
    number: int


@workflow("transfer")
def transfer(w: Workflow, amount: int, *, to: str = "bob") -> Receipt:
    answer = w.call("http://bank/out", {"amount": amount}, undo="http://bank/out/undo")
    assert_type(answer, Answer)
    number = w.do(lambda: len(to), undo=make, commit="http://bank/take")
    assert_type(number, int)
    moved = w.xa(connect, move)
    assert_type(moved, int)
    counted = w.branch().on_rollback(undone).on_commit("http://bank/take", {"n": 1}).do(done)
    assert_type(counted, str)
    return w.do(make, returns=Receipt)


@workflow("transfer", undo_failed_step=True)
async def async_transfer(w: AsyncWorkflow, amount: int, *, to: str = "bob") -> Receipt:
    answer = await w.call("http://bank/out", {"amount": amount}, undo=free)
    assert_type(answer, Answer)
    number = await w.do(count)
    assert_type(number, int)
    counted = await w.branch().on_rollback(async_done).do(async_done)
    assert_type(counted, str)
    return Receipt(number)


def connect() -> sqlite3.Connection:
    return sqlite3.connect("bank")


def move(connection: sqlite3.Connection) -> int:
    return connection.execute("UPDATE account SET balance = balance - 30").rowcount


def make() -> Receipt:
    return Receipt(1)


def done(barrier: Barrier) -> str:
    return barrier.branch.gid


def undone(barrier: Barrier) -> None:
    barrier.call(connect(), move)


async def count() -> int:
    return 1


async def free() -> None: ...


async def async_done(barrier: AsyncBarrier) -> str:
    return barrier.branch.gid


def program(client: Client, body: bytes) -> Receipt:
    flows = Workflows(client, [transfer], callback="http://me/workflow", request_timeout=5, headers={"a": "b"})
    assert_type(flows.run(transfer, 30, to="bob"), Receipt)
    assert_type(flows.start(transfer, amount=30), str)
    execution = flows.execution("order-17", retry_every=30)
    assert_type(execution.run(transfer, 30), Receipt)
    assert_type(execution.start(transfer, 30), str)
    assert_type(flows.handle({"op": "transfer", "gid": "order-17"}, body), Response)
    flows.run(transfer, "30")  # type: ignore[arg-type]
    flows.run(transfer, 30, whom="bob")  # type: ignore[call-arg]
    flows.run(async_transfer, 30)  # type: ignore[arg-type]
    execution.start(transfer)  # type: ignore[call-arg]
    return flows.run(transfer, 30)


async def asynchronous(client: AsyncClient) -> Receipt:
    flows = AsyncWorkflows(client, [async_transfer], callback="127.0.0.1:9000")
    assert_type(await flows.run(async_transfer, 30, to="bob"), Receipt)
    assert_type(await flows.execution("order-17").start(async_transfer, 30), str)
    await flows.run(async_transfer)  # type: ignore[call-arg]
    return await flows.execution().run(async_transfer, 30)
