"""Several nodes over one store: claims, throughput, and whether anything is done twice."""

from __future__ import annotations

from contextlib import ExitStack

from reefknot.bench import alone, workloads
from reefknot.bench.claimer import BATCH, Order, Taken
from reefknot.bench.load import Load
from reefknot.bench.processes import BenchError, Child, Server
from reefknot.bench.rows import (
    DRAIN_SECONDS,
    Meter,
    Plan,
    Row,
    Storage,
    fresh_store,
    row,
    row_of,
    running_service,
    send_at_once,
)
from reefknot.bench.scenarios import Fact

_CONNECTIONS = 64
#: Due transactions for each second of the plan's load.
_DUE_PER_SECOND = 5_000


def claims(plan: Plan, storage: Storage) -> list[Fact]:
    """The store alone: how fast one and two processes claim what is due, and whether both get the same."""
    count = int(plan.seconds * _DUE_PER_SECOND)
    with fresh_store(plan, storage) as directory:
        with Child("alone") as filler:
            filler.tell(alone.Task(storage.url(directory), due=count))
            filler.hear(alone.Done)
        return [fact for processes in (1, 2) for fact in _claims(storage, storage.url(directory), count, processes)]


def _claims(storage: Storage, url: str, count: int, processes: int) -> list[Fact]:
    with ExitStack() as stack:
        claimers = [stack.enter_context(Child("claimer")) for _ in range(processes)]
        for number, claimer in enumerate(claimers):
            claimer.tell(Order(url, f"benchmark:{number}:0123456789ab"))
        for claimer in claimers:
            claimer.hear(str)
        for claimer in claimers:
            claimer.tell("start")
        taken = [claimer.hear(Taken) for claimer in claimers]
        for claimer in claimers:
            claimer.tell("release")
            claimer.hear(str)
    gids = [gid for one in taken for gid in one.gids]
    seconds = max(one.ended for one in taken) - min(one.started for one in taken)
    if len(set(gids)) != count:
        raise BenchError(f"{len(set(gids))} of {count} due transactions were claimed")
    label, shares = f"{storage.label}/claims/{processes}", " + ".join(f"{len(one.gids):,}" for one in taken)
    text = f"{count:,} due, batches of {BATCH}, one at a time in each of {processes} processes ({shares})"
    facts = [Fact(label, count / seconds, "claims/s", text)]
    if processes > 1:
        facts.append(Fact(f"{label}/twice", len(gids) - len(set(gids)), "claimed twice", text))
    return facts


def nodes(plan: Plan, storage: Storage) -> tuple[list[Row], list[Fact]]:
    """The main row on one node, on two over the same store with the connections shared out, and on one again."""
    before = row(plan, storage, "saga", _CONNECTIONS)
    two, calls = _two(plan, storage)
    after = row(plan, storage, "saga", _CONNECTIONS)
    before.name, two.name, after.name = (
        f"{storage.label}/saga/{_CONNECTIONS} {state}" for state in ("one node, before", "two nodes", "one node, after")
    )
    one_rate = (before.rate + after.rate) / 2
    text = f"one node {one_rate:,.0f} sagas/s, two together {two.rate:,.0f}, on the same cores"
    share = Fact(f"{storage.label}/nodes/share", two.rate / one_rate * 100, "% of half of one node's rate", text)
    text = f"{calls:,} calls for {two.transactions:,} sagas of two branches"
    twice = Fact(f"{storage.label}/nodes/twice", calls - 2 * two.transactions, "calls too many", text)
    return [before, two, after], [share, twice]


def _two(plan: Plan, storage: Storage) -> tuple[Row, int]:
    """The row on two nodes, and how many calls the business service got."""
    with (
        fresh_store(plan, storage) as directory,
        running_service() as (service, ports),
        Server(storage.url(directory), directory / "first.log") as first,
        Server(storage.url(directory), directory / "second.log") as second,
    ):
        requests = workloads.named("saga", f"http://127.0.0.1:{ports.answering}")
        servers, half = (first, second), _CONNECTIONS // 2
        send_at_once([Load(server.port, requests, half, plan.warm_up_seconds) for server in servers])
        first.wait_until_finished(DRAIN_SECONDS)
        calls, meter = _calls(service), Meter(servers, service.pid, storage.pids)
        sent = send_at_once([Load(server.port, requests, half, plan.seconds) for server in servers])
        used = meter.read(first.wait_until_finished(DRAIN_SECONDS))
        calls = _calls(service) - calls
    return row_of(f"{storage.label}/nodes", sent, used), calls


def _calls(service: Child) -> int:
    service.tell("count")
    return service.hear(int)
