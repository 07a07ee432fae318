"""The rows over gRPC: every saga goes through the real service, and both servers of a comparison are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from reefknot.bench import grpc_rows
from reefknot.bench.grpc_load import GrpcLoad
from reefknot.bench.processes import BenchError, Server, free_port
from reefknot.bench.rows import Plan, Storage
from reefknot.bench.selection import choose
from reefknot.wire.proto.dtmgimp_pb2 import DtmRequest


def test_the_row_over_grpc_is_plausible(tmp_path):
    row = grpc_rows.saga(Plan(1.0, 0.3, tmp_path), Storage("sqlite"))

    assert row.name == "sqlite/grpc/64"
    assert row.transactions > 20
    assert 100 < row.cpu_us < 20_000
    assert row.service_us > 20, "the branches were not called over gRPC"
    assert row.load_us > 10
    assert list(tmp_path.iterdir()) == []


def test_an_idle_port_is_compared_on_two_servers(tmp_path):
    fact = grpc_rows.idle(Plan(1.0, 0.3, tmp_path), Storage("memory"), 2)

    assert fact.name == "memory/grpc-idle"
    assert -60 < fact.value < 150
    assert "medians of 2 loads each" in fact.text


def test_a_refused_request_ends_the_measurement(tmp_path):
    port = free_port()
    request = DtmRequest(Gid="g", TransType="none").SerializeToString()
    with (
        Server("memory://", tmp_path / "log", grpc_port=port),
        pytest.raises(BenchError, match="requests were refused"),
    ):
        grpc_rows.send(GrpcLoad(port, request, 1, 0.2))


def test_the_rows_can_be_chosen():
    chosen = choose(Plan(1.0, 0.5, Path("/tmp")), [Storage("sqlite")], ["grpc", "grpc-idle"])

    assert [name for name, _ in chosen] == ["echo/64", "sqlite/grpc/64", "sqlite/grpc-idle"]
