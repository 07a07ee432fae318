"""Every caller keeps the rules of the conformance suite, on both event loops."""

from __future__ import annotations

import pytest

from reefknot.callers.grpc import GrpcCaller
from reefknot.callers.http import HttpCaller
from reefknot.callers.jsonrpc import JsonRpcCaller
from reefknot.testing.conformance.caller import HTTP_RULES, RULES, Rule, Subject
from reefknot.testing.conformance.services import grpc_service, http_service

pytestmark = pytest.mark.anyio

BAD_HTTP = ("http://user:secret@host", "http://", "http://host:99999", "http://[::1", "ftp://host")
BAD_GRPC = ("user:secret@host:1", "", "host:99999", "[::1", "host", "etcd://user:secret@host")


def subject(make: type, protocol: str, path: str) -> Subject:
    grpc = protocol == "grpc"
    bad = tuple(start + path for start in (BAD_GRPC if grpc else BAD_HTTP))
    return Subject(make, protocol, path, grpc_service if grpc else http_service, bad)


SUBJECTS = {
    "http": subject(HttpCaller, "http", "/api/TransOut?a=1"),
    "json-rpc": subject(JsonRpcCaller, "json-rpc", "/api/json-rpc?method=TransOut"),
    "grpc": subject(GrpcCaller, "grpc", "/bank.Bank/TransOut"),
}


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that the server runs on."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_caller_keeps_the_rule(rule: Rule, subject: Subject) -> None:
    await rule(subject)


@pytest.mark.parametrize("subject", [SUBJECTS["http"], SUBJECTS["json-rpc"]], ids=["http", "json-rpc"])
@pytest.mark.parametrize("rule", HTTP_RULES, ids=lambda rule: rule.__name__)
async def test_caller_over_http_keeps_the_rule(rule: Rule, subject: Subject) -> None:
    await rule(subject)
