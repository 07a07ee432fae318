"""What it costs to delete a million finished transactions while clients go on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType

import msgspec

from reefknot.bench import alone, workloads
from reefknot.bench.load import Load
from reefknot.bench.processes import BenchError, Child, Server, cpu_us
from reefknot.bench.rows import DRAIN_SECONDS, Meter, Plan, Row, Storage, fresh_store, row_of, running_service, send
from reefknot.bench.scenarios import Fact

_CONNECTIONS = 64
#: Everything that is finished is old enough after a second, and the next purge comes a second after the last.
_PURGES = MappingProxyType({"STORE_FINISHED_DATA_EXPIRE": "1", "REEFKNOT_PURGE_INTERVAL": "1"})
_KEEPS = MappingProxyType({"STORE_FINISHED_DATA_EXPIRE": "0"})
#: The purge may stand still for so long before the measurement is given up.
_PATIENCE_SECONDS = 30.0
#: A server without clients is watched for so many times as long as a load takes, if it is not done before.
_REST_LENGTH = 30


class _Rest(msgspec.Struct, frozen=True):
    """A purge without a load: how many it deleted, each second and altogether, and CPU microseconds for each."""

    rate: float
    deleted: int
    row_us: float


class _Loaded(msgspec.Struct, frozen=True):
    """The load on a server: its row, and how many the server deleted, each second of the load and altogether."""

    row: Row
    rate: float
    deleted: int


def purge(plan: Plan, storage: Storage, count: int, rounds: int) -> tuple[list[Row], list[Fact]]:
    """The main row without and with the purge of finished transactions, in turns; then the rest of the purge alone.

    Args:
        plan: how to measure.
        storage: the store.
        count: finished transactions to delete.
        rounds: pairs of a load without and one with the purge; the first of a pair is the second of the next, so
            that whatever changes slowly meanwhile is in both.

    Raises:
        BenchError: all were deleted before the last load had ended.
    """
    keeping: list[_Loaded] = []
    purging: list[_Loaded] = []
    with fresh_store(plan, storage) as directory:
        with Child("alone") as filler:
            filler.tell(alone.Task(storage.url(directory), fill=count))
            filled = filler.hear(alone.Done)
        left = count
        for number in range(rounds):
            for settings in (_KEEPS, _PURGES) if number % 2 == 0 else (_PURGES, _KEEPS):
                loaded = _loaded(plan, storage, directory, settings)
                (keeping if settings is _KEEPS else purging).append(loaded)
                left -= loaded.deleted
            if left <= 0:
                raise BenchError(f"all {count:,} were deleted before the load had ended; there must be more")
        rest = _rest(plan, storage, directory, left)
    before, after = [one.row for one in keeping], [one.row for one in purging]
    rows = [
        _typical(f"{storage.label}/saga/{_CONNECTIONS} {state}", some)
        for state, some in (("without purge", before), ("with purge", after))
    ]
    text = f"{count:,} finished, stored in {filled.seconds:.0f} s; {rounds} loads each of {plan.seconds:g} s"
    rate = median(one.rate for one in purging)
    return rows, [*_effects(storage, before, after, text), *_costs(storage, rate, rest)]


def _effects(storage: Storage, before: Sequence[Row], after: Sequence[Row], text: str) -> list[Fact]:
    """What the clients notice: the median of the pairs, and every pair."""
    pairs = list(zip(before, after, strict=True))
    losses = [(1 - purging.rate / keeping.rate) * 100 for keeping, purging in pairs]
    longer = [purging.p99_ms - keeping.p99_ms for keeping, purging in pairs]
    return [
        Fact(f"{storage.label}/purge/loss", median(losses), "% fewer sagas/s", f"{text}; {_listed(losses)}"),
        Fact(f"{storage.label}/purge/p99", median(longer), "ms longer p99", f"{text}; {_listed(longer)}"),
    ]


def _costs(storage: Storage, rate: float, rest: _Rest) -> list[Fact]:
    """What the purge does, and what it takes."""
    cores = len(os.sched_getaffinity(0))
    part = rate * rest.row_us / (cores * 10_000)
    text = f"{rest.deleted:,} deleted, nothing else to do"
    return [
        Fact(f"{storage.label}/purge/rate", rate, "purged/s", f"during the loads; median, {_CONNECTIONS} connections"),
        Fact(f"{storage.label}/purge/alone", rest.rate, "purged/s", text),
        Fact(
            f"{storage.label}/purge/cpu",
            rest.row_us,
            "µs CPU per purged one",
            f"alone: server, writer and database; {part:.1f} % of {cores} cores at the rate during the loads",
        ),
    ]


def _listed(values: Sequence[float]) -> str:
    return f"the pairs: {', '.join(f'{value:.1f}' for value in values)}"


def _typical(name: str, rows: Sequence[Row]) -> Row:
    """The median of each figure."""
    names = [field for field in Row.__struct_fields__ if field not in ("name", "transactions")]
    figures = {field: median(getattr(row, field) for row in rows) for field in names}
    return Row(name=name, transactions=sum(row.transactions for row in rows), **figures)


def _loaded(plan: Plan, storage: Storage, directory: Path, settings: Mapping[str, str]) -> _Loaded:
    url = storage.url(directory)
    with running_service() as (service, ports), Server(url, directory / "server.log", settings) as server:
        requests = workloads.named("saga", f"http://127.0.0.1:{ports.answering}")
        send(Load(server.port, requests, _CONNECTIONS, plan.warm_up_seconds))
        server.wait_until_finished(DRAIN_SECONDS)
        if settings is _PURGES:
            _more_than(0, server)
        meter, before, began = Meter([server], service.pid, storage.pids), server.purged(), time.monotonic()
        sent = send(Load(server.port, requests, _CONNECTIONS, plan.seconds))
        used = meter.read(server.wait_until_finished(DRAIN_SECONDS))
        deleted, seconds = server.purged(), time.monotonic() - began
    name = f"{storage.label}/purge"
    return _Loaded(row_of(name, [sent], used), (deleted - before) / seconds, deleted)


def _rest(plan: Plan, storage: Storage, directory: Path, left: int) -> _Rest:
    """Let a server without clients delete what is left.

    Raises:
        BenchError: that was too quick to be measured.
    """
    with Server(storage.url(directory), directory / "server.log", _PURGES) as server:
        first, began = _more_than(0, server), time.monotonic()
        before = server.usage().total_us + sum(map(cpu_us, storage.pids))
        deleted = first
        while deleted < left and time.monotonic() - began < plan.seconds * _REST_LENGTH:
            deleted = _more_than(deleted, server)
        seconds = time.monotonic() - began
        used = server.usage().total_us + sum(map(cpu_us, storage.pids)) - before
    if deleted == first:
        raise BenchError("the rest was deleted at once; there must be more")
    return _Rest((deleted - first) / seconds, deleted, used / (deleted - first))


def _more_than(deleted: int, server: Server) -> int:
    """How many the server has deleted, as soon as it is more than that.

    Raises:
        BenchError: it does not get more.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while (now := server.purged()) <= deleted:
        if time.monotonic() > until:
            raise BenchError(f"the purge stands still at {now:,}")
        time.sleep(0.2)
    return now
