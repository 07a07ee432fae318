"""Rows of the rate table: one workload, on one store, with so many clients."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from reefknot.bench import alone, workloads
from reefknot.bench.load import Load, Sent
from reefknot.bench.processes import BenchError, Child, Server, Usage, cpu_us, outside_us, profiled, usage
from reefknot.bench.service import Ports

#: How long a backlog may take to be finished after the load.
DRAIN_SECONDS = 120.0


class Plan(msgspec.Struct, frozen=True):
    """How long to measure and where to keep files.

    Args:
        seconds: length of the measured load.
        warm_up_seconds: length of the load before it, which is not counted.
        directory: parent of the stores' temporary directories; must be on a disk.
        profile: directory for the collapsed stacks of each row's server, None for no profile.
    """

    seconds: float
    warm_up_seconds: float
    directory: Path
    profile: Path | None = None


class Row(msgspec.Struct, kw_only=True):
    """What one row came to. Per transaction: CPU in microseconds, bytes written in KiB.

    ``server_us`` is the main thread of the server, ``store_us`` its other threads and its writer
    process, ``database_us`` the database server, ``busiest_us`` the one of its processes that used
    most: a master of a cluster. ``drain_seconds`` passed between the last answer and the last
    transaction's end. ``other_percent`` of one core was used by processes that have no part in the
    measurement. ``spread_percent`` more CPU time was used in the dearest of several rounds.
    The ratios: rate over that of echo, CPU over that of echo, rate over that of the store alone.
    """

    name: str
    transactions: int
    rate: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    server_us: float = 0.0
    store_us: float = 0.0
    database_us: float = 0.0
    busiest_us: float = 0.0
    written_kib: float = 0.0
    service_us: float = 0.0
    load_us: float = 0.0
    drain_seconds: float = 0.0
    other_percent: float = 0.0
    spread_percent: float = 0.0
    echo_ratio: float = 0.0
    echo_cpu_ratio: float = 0.0
    ceiling_ratio: float = 0.0

    @property
    def cpu_us(self) -> float:
        """CPU of our processes for one transaction."""
        return self.server_us + self.store_us


def cheapest(rounds: Sequence[Row]) -> Row:
    """The one of several measurements of a row that took the least CPU time, with their spread.

    Not the middle one: what else runs on the same host can only make a round dearer, never cheaper; see
    ``timeit.Timer.repeat`` in the standard library.
    """
    found = min(rounds, key=lambda row: row.cpu_us)
    highest = max(row.cpu_us for row in rounds)
    spread = (highest / found.cpu_us - 1) * 100 if found.cpu_us else 0.0
    return msgspec.structs.replace(found, spread_percent=spread)


class Storage(msgspec.Struct, frozen=True):
    """A store to measure.

    Args:
        label: its name in the rows; without an address also its kind, ``memory`` or ``sqlite``.
        address: the URL of a store that exists; it is emptied before and after every row.
        pids: the database server's processes, each standing for its children too.
    """

    label: str
    address: str = ""
    pids: tuple[int, ...] = ()

    def url(self, directory: Path) -> str:
        """Its URL; an embedded one keeps its file in ``directory``."""
        if self.address:
            return self.address
        return "memory://" if self.label == "memory" else f"{self.label}:///{directory.resolve()}/bench.db"


class Used(msgspec.Struct, frozen=True):
    """What a measurement used, by everything that has a part in it, and when it ended.

    ``ended`` is a time of the monotonic clock in seconds; the CPU times are in microseconds. ``others_us`` was used
    by processes without a part, during ``seconds``.
    """

    ended: float
    server: Usage
    service: Usage
    database_us: tuple[float, ...]
    others_us: float
    seconds: float


class Meter:
    """Reads what the processes of a measurement use from its creation on.

    Args:
        servers: the servers.
        service: the business service's process.
        database: the database server's processes.
    """

    def __init__(self, servers: Sequence[Server], service: int, database: Sequence[int]) -> None:
        self._servers = tuple(servers)
        self._service = service
        self._database = tuple(database)
        self._before = self._now(0.0)

    def read(self, ended: float) -> Used:
        """What was used since; ``ended`` is when the measurement did."""
        now, before = self._now(ended), self._before
        return Used(
            ended,
            now.server.since(before.server),
            now.service.since(before.service),
            tuple(us - then for us, then in zip(now.database_us, before.database_us, strict=True)),
            now.others_us - before.others_us,
            now.seconds - before.seconds,
        )

    def _now(self, ended: float) -> Used:
        each = [server.usage() for server in self._servers]
        whole = Usage(
            sum(one.main_us for one in each),
            sum(one.other_us for one in each),
            sum(one.written_bytes for one in each),
            sum(one.rss_bytes for one in each),
        )
        database = tuple(cpu_us(pid) for pid in self._database)
        service = usage(self._service)
        others_us = outside_us() - whole.total_us - service.total_us - sum(database)
        return Used(ended, whole, service, database, others_us, time.monotonic())


@contextlib.contextmanager
def running_service() -> Iterator[tuple[Child, Ports]]:
    """A business service of one's own."""
    with Child("service") as service:
        yield service, service.hear(Ports)


@contextlib.contextmanager
def fresh_store(plan: Plan, storage: Storage) -> Iterator[Path]:
    """An empty store, with a directory for its files; nothing is left afterwards."""
    with TemporaryDirectory(prefix="reefknot-bench-", dir=plan.directory) as name:
        if not storage.address:
            yield Path(name)
            return
        _empty(storage)
        try:
            yield Path(name)
        except BaseException:
            with contextlib.suppress(BenchError):  # the first error says more
                _empty(storage)
            raise
        _empty(storage)


def _empty(storage: Storage) -> None:
    with Child("alone") as store:
        store.tell(alone.Task(storage.address, empty=True))
        store.hear(alone.Done)


def durability_of(storage: Storage) -> str:
    """What a store that exists says about its durability.

    Raises:
        BenchError: it cannot be opened, or there is something in it, which rows would delete.
    """
    with Child("alone") as store:
        store.tell(alone.Task(storage.address))
        found = store.hear(alone.Done)
    if found.occupied:
        raise BenchError("the store is not empty; every row would delete what is in it")
    return found.durability


def send(load: Load) -> Sent:
    """Run a load generator.

    Raises:
        BenchError: a request was refused: nothing that follows would mean anything.
    """
    return send_at_once([load])[0]


def send_at_once(loads: Sequence[Load]) -> list[Sent]:
    """Run several load generators at the same time; otherwise as ``send``."""
    with contextlib.ExitStack() as stack:
        generators = [stack.enter_context(Child("load")) for _ in loads]
        for generator, load in zip(generators, loads, strict=True):
            generator.tell(load)
        sent = [generator.hear(Sent) for generator in generators]
    for one in sent:
        if one.failures:
            raise BenchError(f"{one.failures} requests were refused, the first with {one.first_failure}")
    return sent


def echo(plan: Plan, connections: int) -> Row:
    """The bare server stack: a request like a saga's, answered with a constant."""
    requests = workloads.named("saga", "http://127.0.0.1:12345")
    with Child("echo") as server:
        port = server.hear(int)
        send(Load(port, requests, connections, plan.warm_up_seconds))
        started, before, outside = time.monotonic(), usage(server.pid), outside_us()
        sent = send(Load(port, requests, connections, plan.seconds))
        used, outside, ended = usage(server.pid).since(before), outside_us() - outside, time.monotonic()
    seconds, count = sent.ended - sent.started, sent.transactions
    return Row(
        name=f"echo/{connections}",
        transactions=count,
        rate=count / seconds,
        p50_ms=sent.p50_ms,
        p99_ms=sent.p99_ms,
        server_us=used.total_us / count,
        load_us=sent.cpu_us / count,
        other_percent=_percent(outside - used.total_us, ended - started),
    )


def ceiling(plan: Plan, storage: Storage) -> Row:
    """The store alone, under 64 drivers that do nothing else."""
    with fresh_store(plan, storage) as directory, Child("alone") as store:
        started, outside = time.monotonic(), outside_us()
        before = sum(map(cpu_us, storage.pids))
        store.tell(alone.Task(storage.url(directory), drivers=64, seconds=plan.seconds, pids=storage.pids))
        done = store.hear(alone.Done)
        ended, outside = time.monotonic(), outside_us() - outside
        whole = usage(store.pid).total_us + sum(map(cpu_us, storage.pids)) - before
    count = done.transactions
    return Row(
        name=f"{storage.label}/ceiling",
        transactions=count,
        rate=count / done.seconds,
        server_us=done.used.main_us / count,
        store_us=done.used.other_us / count,
        database_us=sum(done.database_us) / count,
        busiest_us=max(done.database_us, default=0.0) / count,
        written_kib=done.used.written_bytes / 1024 / count,
        other_percent=_percent(outside - whole, ended - started),
    )


def row(plan: Plan, storage: Storage, workload: str, connections: int) -> Row:
    """One workload against a fresh server on a fresh store."""
    with fresh_store(plan, storage) as directory:
        return row_in(plan, directory, storage, workload, connections)


def row_in(plan: Plan, directory: Path, storage: Storage, workload: str, connections: int) -> Row:
    """The same on the store that is in ``directory``."""
    name = f"{storage.label}/{workload}/{connections}"
    profile = plan.profile / f"{name.replace('/', '-').replace('?', '-')}.txt" if plan.profile else None
    with running_service() as (service, ports), Server(storage.url(directory), directory / "server.log") as server:
        requests = workloads.named(workload, f"http://127.0.0.1:{ports.answering}")
        send(Load(server.port, requests, connections, plan.warm_up_seconds))
        server.wait_until_finished(DRAIN_SECONDS)
        meter = Meter([server], service.pid, storage.pids)
        with profiled(server.pid, plan.seconds, profile):
            sent = send(Load(server.port, requests, connections, plan.seconds))
            used = meter.read(server.wait_until_finished(DRAIN_SECONDS))
    return row_of(name, [sent], used)


def row_of(name: str, sent: Sequence[Sent], used: Used) -> Row:
    """The figures of what was sent at the same time. Latencies are those of the slower generator."""
    count, started = sum(one.transactions for one in sent), min(one.started for one in sent)
    seconds, load_us = used.ended - started, sum(one.cpu_us for one in sent)
    if not count:
        raise BenchError(f"{name}: no transaction was accepted")
    return Row(
        name=name,
        transactions=count,
        rate=count / seconds,
        p50_ms=max(one.p50_ms for one in sent),
        p99_ms=max(one.p99_ms for one in sent),
        server_us=used.server.main_us / count,
        store_us=used.server.other_us / count,
        database_us=sum(used.database_us) / count,
        busiest_us=max(used.database_us, default=0.0) / count,
        written_kib=used.server.written_bytes / 1024 / count,
        service_us=used.service.total_us / count,
        load_us=load_us / count,
        drain_seconds=used.ended - max(one.ended for one in sent),
        other_percent=_percent(used.others_us, used.seconds),
    )


def _percent(others_us: float, seconds: float) -> float:
    """The part of one core, in percent, that others used."""
    return max(others_us, 0.0) / (seconds * 1_000_000) * 100
