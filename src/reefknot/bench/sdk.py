"""What the SDK costs: a program that submits sagas through the client, in a process of its own.

Only the CPU of that program is counted. Nobody listens at the branches, and each saga is given up after a second.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
import uvloop

from reefknot.bench.processes import Child, Server
from reefknot.bench.rows import Plan, Storage, fresh_store
from reefknot.bench.scenarios import Fact
from reefknot.client import AsyncClient, AsyncSaga, Client, Saga

#: Tasks that share the asynchronous client.
_TASKS = 16
_WARM_UP = 200
#: Loads of each face; the cheapest counts, as other work on the machine only adds.
_ROUNDS = 5
#: Nobody listens there; the server tries again in the background.
_OUT, _IN = "http://127.0.0.1:1/out", "http://127.0.0.1:1/in"
_DATA = {"amount": 30, "transInResult": "", "transOutResult": ""}


class Task(msgspec.Struct, frozen=True):
    """What to send: so many sagas to a server, through one face of the client."""

    url: str
    face: str
    count: int


class Done(msgspec.Struct, frozen=True):
    """What one saga took: microseconds of CPU of the program, from making it to its outcome."""

    cpu_us: float


def clients(plan: Plan, storage: Storage) -> list[Fact]:
    """The CPU of one submit through the synchronous and the asynchronous client, connections kept."""
    with fresh_store(plan, storage) as directory, Server(storage.url(directory), directory / "server.log") as server:
        facts = []
        for face, tasks in (("sync", "one thread"), ("async", f"{_TASKS} tasks")):
            with Child("sdk") as program:
                program.tell(Task(f"http://127.0.0.1:{server.port}", face, max(200, round(200 * plan.seconds))))
                took = program.hear(Done).cpu_us
            text = f"a saga of two steps made and submitted over HTTP by {tasks}, the cheapest of {_ROUNDS} loads"
            facts.append(Fact(f"{storage.label}/sdk/{face}", took, "µs CPU per submit", text))
        server.kill()
    return facts


def _fill(saga: Saga | AsyncSaga) -> None:
    saga.step(_OUT, "", _DATA)
    saga.step(_IN, "", _DATA)


def _sync(task: Task) -> float:
    with Client(task.url) as client:

        def send(count: int) -> float:
            begun = time.process_time()
            for _ in range(count):
                saga = client.saga(timeout=1)
                _fill(saga)
                saga.submit()
            return (time.process_time() - begun) / count

        send(_WARM_UP)
        return min(send(task.count) for _ in range(_ROUNDS))


async def _async(task: Task) -> float:
    async with AsyncClient(task.url) as client:

        async def some(count: int) -> None:
            for _ in range(count):
                saga = client.saga(timeout=1)
                _fill(saga)
                await saga.submit()

        async def send(count: int) -> float:
            begun = time.process_time()
            await asyncio.gather(*(some(count // _TASKS) for _ in range(_TASKS)))
            return (time.process_time() - begun) / (count // _TASKS * _TASKS)

        await send(_WARM_UP)
        return min([await send(task.count) for _ in range(_ROUNDS)])


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    seconds = _sync(asked) if asked.face == "sync" else uvloop.run(_async(asked))
    sys.stdout.buffer.write(msgspec.json.encode(Done(seconds * 1_000_000)) + b"\n")
