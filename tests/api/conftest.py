"""A server that is reached over gRPC, and a business behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server with default settings; its recovery runs by itself."""
    with LocalServer(poll=True, grpc=True) as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[GrpcClient]:
    """A client of the server."""
    with GrpcClient(server.grpc_address) as client:
        yield client


@pytest.fixture
def bank() -> Iterator[Participant]:
    """The business: every path succeeds unless a test scripts it."""
    with Participant() as participant:
        yield participant
