"""Rows of the rate table: one workload, on one store, with so many clients."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from reefknot.bench import alone, workloads
from reefknot.bench.load import Load, Sent
from reefknot.bench.processes import BenchError, Child, Server, Usage, machine_busy_us, profiled, usage
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
    process. ``drain_seconds`` passed between the last answer and the last transaction's end.
    ``other_percent`` of one core was used by processes that have no part in the measurement.
    The ratios: rate over that of echo, CPU over that of echo, rate over that of the store alone.
    """

    name: str
    transactions: int
    rate: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    server_us: float = 0.0
    store_us: float = 0.0
    written_kib: float = 0.0
    service_us: float = 0.0
    load_us: float = 0.0
    drain_seconds: float = 0.0
    other_percent: float = 0.0
    echo_ratio: float = 0.0
    echo_cpu_ratio: float = 0.0
    ceiling_ratio: float = 0.0

    @property
    def cpu_us(self) -> float:
        """CPU of the server and its store for one transaction."""
        return self.server_us + self.store_us


class Storage(msgspec.Struct, frozen=True):
    """A store to measure: ``memory``, ``sqlite``, or any store URL."""

    label: str

    def url(self, directory: Path) -> str:
        """Its URL; an embedded one keeps its file in ``directory``."""
        if "://" in self.label:
            return self.label
        return "memory://" if self.label == "memory" else f"{self.label}:///{directory.resolve()}/bench.db"


@contextlib.contextmanager
def running_service() -> Iterator[tuple[Child, Ports]]:
    """A business service of one's own."""
    with Child("service") as service:
        yield service, service.hear(Ports)


@contextlib.contextmanager
def fresh_directory(plan: Plan) -> Iterator[Path]:
    """An empty directory for one store; gone afterwards."""
    with TemporaryDirectory(prefix="reefknot-bench-", dir=plan.directory) as name:
        yield Path(name)


def send(load: Load) -> Sent:
    """Run a load generator.

    Raises:
        BenchError: a request was refused: nothing that follows would mean anything.
    """
    with Child("load") as generator:
        generator.tell(load)
        sent = generator.hear(Sent)
    if sent.failures:
        raise BenchError(f"{sent.failures} requests were refused, the first with {sent.first_failure}")
    return sent


def echo(plan: Plan, connections: int) -> Row:
    """The bare server stack: a request like a saga's, answered with a constant."""
    requests = workloads.named("saga", "http://127.0.0.1:12345")
    with Child("echo") as server:
        port = server.hear(int)
        send(Load(port, requests, connections, plan.warm_up_seconds))
        before, busy = usage(server.pid), machine_busy_us()
        sent = send(Load(port, requests, connections, plan.seconds))
        used, busy = usage(server.pid).since(before), machine_busy_us() - busy
    seconds, count = sent.ended - sent.started, sent.transactions
    return Row(
        name=f"echo/{connections}",
        transactions=count,
        rate=count / seconds,
        p50_ms=sent.p50_ms,
        p99_ms=sent.p99_ms,
        server_us=used.total_us / count,
        load_us=sent.cpu_us / count,
        other_percent=_others(busy, seconds, used.total_us + sent.cpu_us),
    )


def ceiling(plan: Plan, storage: Storage) -> Row:
    """The store alone, under 64 drivers that do nothing else."""
    with fresh_directory(plan) as directory, Child("alone") as store:
        started, busy = time.monotonic(), machine_busy_us()
        store.tell(alone.Task(storage.url(directory), drivers=64, seconds=plan.seconds))
        done = store.hear(alone.Done)
        ended, whole, busy = time.monotonic(), usage(store.pid).total_us, machine_busy_us() - busy
    count = done.transactions
    return Row(
        name=f"{storage.label}/ceiling",
        transactions=count,
        rate=count / done.seconds,
        server_us=done.used.main_us / count,
        store_us=done.used.other_us / count,
        written_kib=done.used.written_bytes / 1024 / count,
        other_percent=_others(busy, ended - started, whole),
    )


def row(plan: Plan, storage: Storage, workload: str, connections: int) -> Row:
    """One workload against a fresh server on a fresh store."""
    with fresh_directory(plan) as directory:
        return row_in(plan, directory, storage, workload, connections)


def row_in(plan: Plan, directory: Path, storage: Storage, workload: str, connections: int) -> Row:
    """The same on the store that is in ``directory``."""
    name = f"{storage.label}/{workload}/{connections}"
    profile = plan.profile / f"{name.replace('/', '-').replace('?', '-')}.txt" if plan.profile else None
    with running_service() as (service, ports), Server(storage.url(directory), directory / "server.log") as server:
        requests = workloads.named(workload, f"http://127.0.0.1:{ports.answering}")
        send(Load(server.port, requests, connections, plan.warm_up_seconds))
        server.wait_until_finished(DRAIN_SECONDS)
        before, service_before, busy = server.usage(), usage(service.pid), machine_busy_us()
        with profiled(server.pid, plan.seconds, profile):
            sent = send(Load(server.port, requests, connections, plan.seconds))
            ended = server.wait_until_finished(DRAIN_SECONDS)
            used, service_used = server.usage().since(before), usage(service.pid).since(service_before)
            busy = machine_busy_us() - busy
    return _row(name, sent, ended, used, service_used, busy)


def _row(name: str, sent: Sent, ended: float, used: Usage, service: Usage, busy_us: float) -> Row:
    count, seconds = sent.transactions, ended - sent.started
    if not count:
        raise BenchError(f"{name}: no transaction was accepted")
    return Row(
        name=name,
        transactions=count,
        rate=count / seconds,
        p50_ms=sent.p50_ms,
        p99_ms=sent.p99_ms,
        server_us=used.main_us / count,
        store_us=used.other_us / count,
        written_kib=used.written_bytes / 1024 / count,
        service_us=service.total_us / count,
        load_us=sent.cpu_us / count,
        drain_seconds=ended - sent.ended,
        other_percent=_others(busy_us, seconds, used.total_us + service.total_us + sent.cpu_us),
    )


def _others(busy_us: float, seconds: float, ours_us: float) -> float:
    """The part of one core, in percent, that others used."""
    return max(busy_us - ours_us, 0.0) / (seconds * 1_000_000) * 100
