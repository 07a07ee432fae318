"""Measurements that are no rate: memory, recovery after a crash, and the cost of a full store."""

from __future__ import annotations

import time

import msgspec

from reefknot.bench import alone, workloads
from reefknot.bench.load import Load
from reefknot.bench.processes import Child, Server
from reefknot.bench.rows import Plan, Row, Storage, fresh_store, row, row_in, running_service, send

_MIB = 1024 * 1024
_CLIENTS = 64
#: Of the transactions to recover, so many have a branch on a host that never answers.
HANGING = 200
#: The server that is going to be killed must not give up on its calls before.
_PATIENT = {"REEFKNOT_REQUEST_TIMEOUT": "300"}
_RECOVERY_SECONDS = 120.0
_SUBMIT_SECONDS = 120.0


class Fact(msgspec.Struct, frozen=True):
    """One figure: its name, the value with its unit, and what was done to get it."""

    name: str
    value: float
    unit: str
    text: str


def full_store(plan: Plan, storage: Storage, count: int) -> tuple[list[Row], list[Fact]]:
    """The main row on an empty store, on one that keeps ``count`` finished transactions, and on an empty one again."""
    before = row(plan, storage, "saga", _CLIENTS)
    with fresh_store(plan, storage) as directory:
        with Child("alone") as filler:
            filler.tell(alone.Task(storage.url(directory), fill=count))
            filled = filler.hear(alone.Done)
        full = row_in(plan, directory, storage, "saga", _CLIENTS)
    after = row(plan, storage, "saga", _CLIENTS)
    empty_us, empty_rate = (before.cpu_us + after.cpu_us) / 2, (before.rate + after.rate) / 2
    before.name, full.name, after.name = (
        f"{storage.label}/saga/{_CLIENTS} {state}"
        for state in ("empty, before", f"with {count:,} finished", "empty, after")
    )
    text = f"{count:,} finished transactions in the store, filled in {filled.seconds:.0f} s"
    facts = [
        Fact(f"{storage.label}/full/cpu", (full.cpu_us / empty_us - 1) * 100, "% more CPU per saga", text),
        Fact(f"{storage.label}/full/rate", (1 - full.rate / empty_rate) * 100, "% fewer sagas/s", text),
    ]
    return [before, full, after], facts


def memory(plan: Plan, storage: Storage, count: int) -> list[Fact]:
    """Resident memory: idle, and with ``count`` open transactions, half of them on a host that hangs."""
    label = f"{storage.label}/memory"
    with (
        fresh_store(plan, storage) as directory,
        running_service() as (_, ports),
        Server(storage.url(directory), directory / "server.log") as server,
    ):
        time.sleep(1.0)
        facts = [Fact(f"{label}/idle", server.usage().rss_bytes / _MIB, "MiB", "one second after the start")]
        for part in (1, 2):
            for base in (f"http://127.0.0.1:{ports.answering}", f"http://127.0.0.1:{ports.hanging}"):
                requests = workloads.saga(base, action="/ongoing")
                send(Load(server.port, requests, _CLIENTS, _SUBMIT_SECONDS, count // 4))
            open_now = server.unfinished()
            text = f"{open_now:,} unfinished, half answered with ONGOING, half on a host that hangs"
            name = f"{label}/open half" if part == 1 else f"{label}/open"
            facts.append(Fact(name, server.usage().rss_bytes / _MIB, "MiB", text))
        server.kill()
    return facts


def recovery(plan: Plan, storage: Storage, count: int, hanging: int) -> list[Fact]:
    """SIGKILL with ``count`` transactions under way, then a restart: how long until they are finished.

    Args:
        plan: how to measure.
        storage: the store.
        count: transactions under way.
        hanging: so many of them have their first branch on a host that never answers.
    """
    label = f"{storage.label}/recovery/{'hanging' if hanging else 'healthy'}"
    with fresh_store(plan, storage) as directory, running_service() as (service, ports):
        healthy, silent = f"http://127.0.0.1:{ports.answering}", f"http://127.0.0.1:{ports.hanging}"
        service.tell("hold")
        with Server(storage.url(directory), directory / "server.log", _PATIENT) as server:
            for base, part in ((silent, hanging), (healthy, count - hanging)):
                if part:
                    send(Load(server.port, workloads.saga(base), _CLIENTS, _SUBMIT_SECONDS, part))
            server.kill()
        service.tell("answer")
        killed = time.monotonic()
        with Server(storage.url(directory), directory / "server.log") as server:
            ready = time.monotonic()
            before = server.unfinished()
            ended = server.wait_until_finished(_RECOVERY_SECONDS, leave=hanging, pause=0.1)
            left = server.unfinished()
            server.kill()
    text = f"{before:,} unfinished when the server answered, {ready - killed:.1f} s after the restart; {left} left"
    return [Fact(label, ended - killed, "s", text)]
