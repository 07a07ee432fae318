"""gRPC: a saga submitted over gRPC with two branches over gRPC, and what the port costs those who use HTTP only."""

from __future__ import annotations

from statistics import median
from typing import Any

import msgspec

from reefknot.bench import rows, workloads
from reefknot.bench.grpc_load import GrpcLoad
from reefknot.bench.load import Load, Sent
from reefknot.bench.processes import BenchError, Child, Server, free_port, profiled
from reefknot.bench.rows import (
    DRAIN_SECONDS,
    Meter,
    Plan,
    Row,
    Storage,
    fresh_store,
    row_of,
    running_service,
)
from reefknot.bench.scenarios import Fact
from reefknot.wire.proto.dtmgimp_pb2 import DtmRequest

_CLIENTS = 64


def saga(plan: Plan, storage: Storage) -> Row:
    """Sagas over gRPC, with branches over gRPC, against a fresh server on a fresh store."""
    name = f"{storage.label}/grpc/{_CLIENTS}"
    profile = plan.profile / f"{name.replace('/', '-')}.txt" if plan.profile else None
    grpc_port = free_port()
    with (
        fresh_store(plan, storage) as directory,
        Child("grpc_service") as service,
        Server(storage.url(directory), directory / "server.log", grpc_port=grpc_port) as server,
    ):
        request = _request(f"127.0.0.1:{service.hear(int)}")
        send(GrpcLoad(grpc_port, request, _CLIENTS, plan.warm_up_seconds))
        server.wait_until_finished(DRAIN_SECONDS)
        meter = Meter([server], service.pid, storage.pids)
        with profiled(server.pid, plan.seconds, profile):
            sent = send(GrpcLoad(grpc_port, request, _CLIENTS, plan.seconds))
            used = meter.read(server.wait_until_finished(DRAIN_SECONDS))
    return row_of(name, [sent], used)


def idle(plan: Plan, storage: Storage, rounds: int) -> Fact:
    """How much more CPU a saga over HTTP costs on a server that has a gRPC port which nobody uses.

    Both servers run all the time and are loaded in turn, so that the machine's mood is the same for both.

    Args:
        plan: how to measure; its seconds are shared out among the loads of a server.
        storage: the store.
        rounds: loads on each of the two servers.
    """
    with (
        fresh_store(plan, storage) as without_directory,
        fresh_store(plan, storage) as with_directory,
        running_service() as (service, ports),
        Server(storage.url(without_directory), without_directory / "server.log") as without,
        Server(storage.url(with_directory), with_directory / "server.log", grpc_port=free_port()) as with_port,
    ):
        requests = workloads.named("saga", f"http://127.0.0.1:{ports.answering}")
        cpu: dict[Server, list[float]] = {without: [], with_port: []}
        for seconds in (plan.warm_up_seconds, *[plan.seconds / rounds] * rounds):
            for server, costs in cpu.items():
                meter = Meter([server], service.pid, storage.pids)
                sent = rows.send(Load(server.port, requests, _CLIENTS, seconds))
                used = meter.read(server.wait_until_finished(DRAIN_SECONDS))
                costs.append(used.server.total_us / sent.transactions)
    before, after = (median(costs[1:]) for costs in cpu.values())
    text = f"{before:.1f} µs CPU for each saga without the port, {after:.1f} with it; medians of {rounds} loads each"
    return Fact(f"{storage.label}/grpc-idle", (after / before - 1) * 100, "% more CPU per saga over HTTP", text)


def _request(address: str) -> bytes:
    """A submit of the saga that the rows over HTTP use."""
    (template,) = workloads.saga(f"{address}/bank.Bank")
    fields = msgspec.json.decode(template.body, type=dict[str, Any])
    return DtmRequest(
        Gid=workloads.GID,
        TransType=fields["trans_type"],
        Steps=msgspec.json.encode(fields["steps"]).decode(),
        BinPayloads=[payload.encode() for payload in fields["payloads"]],
    ).SerializeToString()


def send(load: GrpcLoad) -> Sent:
    """Run a load generator over gRPC.

    Raises:
        BenchError: a request was refused: nothing that follows would mean anything.
    """
    with Child("grpc_load") as generator:
        generator.tell(load)
        sent = generator.hear(Sent)
    if sent.failures:
        raise BenchError(f"{sent.failures} requests were refused, the first with {sent.first_failure}")
    return sent
