"""Every caller over HTTP keeps the rules of the conformance suite, on both event loops."""

from __future__ import annotations

import pytest

from reefknot.callers.http import HttpCaller
from reefknot.callers.jsonrpc import JsonRpcCaller
from reefknot.testing.conformance.caller import RULES, Rule, Subject

pytestmark = pytest.mark.anyio

SUBJECTS = {
    "http": Subject(HttpCaller, "http", "/api/TransOut?a=1"),
    "json-rpc": Subject(JsonRpcCaller, "json-rpc", "/api/json-rpc?method=TransOut"),
}


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that the server runs on."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_caller_keeps_the_rule(rule: Rule, subject: Subject) -> None:
    await rule(subject)
