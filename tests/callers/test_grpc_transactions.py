"""Whole transactions with branches over gRPC, submitted to a real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from reefknot.testing import grpc_participant as over_grpc
from reefknot.testing import participant as over_http
from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.grpc_participant import GrpcParticipant
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer, ServerProcess
from reefknot.wire.proto.workflow_pb2 import WorkflowData

OUT, IN = "/bank.Bank/TransOut", "/bank.Bank/TransIn"
PAYLOADS = [b"\x08\x1e\xff", b"\x10\x1e\x00"]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(grpc=True) as running:
        yield running


@pytest.fixture
def bank() -> Iterator[GrpcParticipant]:
    with GrpcParticipant() as participant:
        yield participant


@pytest.fixture
def shop() -> Iterator[Participant]:
    with Participant() as participant:
        yield participant


def mixed_steps(bank: GrpcParticipant, shop: Participant) -> list[dict[str, str]]:
    """The first branch over gRPC, the second over HTTP."""
    return [
        {"action": bank.url(OUT), "compensate": bank.url(OUT + "Revert")},
        {"action": shop.url("/TransIn"), "compensate": shop.url("/TransInRevert")},
    ]


def submit(server: LocalServer, gid: str, steps: list[dict[str, str]], headers: dict[str, str] | None = None) -> None:
    with GrpcClient(server.grpc_address) as client:
        fields = {"Gid": gid, "TransType": "saga", "Steps": json.dumps(steps), "BinPayloads": PAYLOADS}
        client.dtm("Submit", fields | {"TransOptions": {"BranchHeaders": headers or {}}})


def test_a_grpc_transaction_calls_http_urls_over_http(server, bank, shop):
    submit(server, "g1", mixed_steps(bank, shop), {"Authorization": "Bearer 1"})

    assert server.wait_for("g1", "succeed", "failed") == "succeed"
    (out,), (into,) = bank.calls, shop.calls
    assert (out.path, out.body, out.branch_id, out.op) == (OUT, PAYLOADS[0], "01", "action")
    assert (into.path, into.body, into.branch_id, into.op) == ("/TransIn", PAYLOADS[1], "02", "action")
    assert out.metadata["authorization"] == into.headers["Authorization"] == "Bearer 1"


def test_a_refused_http_branch_is_compensated_over_grpc(server, bank, shop):
    shop.always("/TransIn", over_http.FAILURE)
    submit(server, "g1", mixed_steps(bank, shop))

    assert server.wait_for("g1", "succeed", "failed") == "failed"
    assert bank.called("g1") == [OUT, OUT + "Revert"]
    assert bank.calls[1].body == PAYLOADS[0]
    assert shop.called("g1") == ["/TransIn", "/TransInRevert"]


def test_a_refused_grpc_branch_rolls_back_with_its_reason(server, bank):
    bank.always(IN, over_grpc.FAILURE)
    steps = [{"action": bank.url(name), "compensate": bank.url(name + "Revert")} for name in (OUT, IN)]
    submit(server, "g1", steps)

    assert server.wait_for("g1", "succeed", "failed") == "failed"
    assert bank.called("g1") == [OUT, IN, IN + "Revert", OUT + "Revert"]
    reason = server.get("query", gid="g1").json()["transaction"]["rollback_reason"]
    assert reason == f"url:{bank.url(IN)} return failed: reason:refused FAILURE"


def test_an_ongoing_grpc_branch_is_called_again(server, bank):
    bank.script(OUT, [over_grpc.ONGOING, over_grpc.ERROR])
    submit(server, "g1", [{"action": bank.url(OUT)}, {"action": bank.url(IN)}])
    server.settle()
    assert server.status("g1") == "submitted"

    server.cron()
    server.cron()

    assert server.status("g1") == "succeed"
    assert bank.called("g1") == [OUT, OUT, OUT, IN]


def test_a_json_rpc_transaction_calls_other_urls_over_grpc(server, bank):
    steps = [{"action": bank.url(OUT), "compensate": ""}]
    fields = {"gid": "g1", "trans_type": "saga", "protocol": "json-rpc", "steps": steps, "payloads": ['{"amount":30}']}
    answer = server.jsonrpc("submit", fields)

    assert answer.json()["error"] is None
    assert server.wait_for("g1", "succeed", "failed") == "succeed"
    assert bank.calls[0].body == b'{"amount":30}'


def test_a_workflow_is_resumed_over_grpc(server, bank):
    method = "/workflow.Workflow/Execute"
    custom = {"name": "transfer", "data": base64.b64encode(PAYLOADS[0]).decode()}
    with GrpcClient(server.grpc_address) as client:
        fields = {"Gid": "g1", "TransType": "workflow", "QueryPrepared": bank.url(method)}
        client.dtm("PrepareWorkflow", fields | {"CustomedData": json.dumps(custom)})
    server.cron()

    (call,) = bank.calls
    assert (call.path, call.gid, call.mode, call.branch_id, call.op) == (method, "g1", "workflow", "00", "transfer")
    assert WorkflowData.FromString(call.body).Data == PAYLOADS[0]
    assert server.status("g1") == "prepared"


def test_a_server_without_grpc_does_not_load_it_until_a_branch_needs_it(tmp_path, bank, shop):
    with ServerProcess(f"sqlite:///{tmp_path}/reefknot.db") as server:

        def run(gid: str, protocol: str, url: str) -> bool:
            """Run a saga of one branch; whether the server has loaded the library afterwards."""
            fields = {"gid": gid, "trans_type": "saga", "protocol": protocol, "steps": [{"action": url}]}
            assert server.post("submit", fields | {"payloads": ["{}"]}).status == 200
            assert server.wait_for(gid, "succeed", "failed") == "succeed"
            return "cygrpc" in Path(f"/proc/{server.process.pid}/maps").read_text("utf-8")

        assert run("g1", "http", shop.url("/TransOut")) is False
        assert run("g2", "grpc", bank.url(OUT)) is True
