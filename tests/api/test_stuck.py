"""Why a transaction is stuck is seen wherever a transaction is seen."""

from __future__ import annotations

import base64
import json
import threading
import time

import pytest

from reefknot import Client
from reefknot.coordinator.hosts import PROBES, SUSPECT_AFTER
from reefknot.testing.databases.processes import free_port
from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.participant import ERROR, FAILURE, HANG_UP, ONGOING, Say
from reefknot.testing.server import PATIENCE_SECONDS, LocalServer


@pytest.fixture
def server():
    """A server whose recovery runs when the test says so."""
    with LocalServer(grpc=True, request_timeout=1) as server:
        yield server


def submit(server, gid, *actions, **options):
    steps = [{"action": action, "compensate": action + "/undo"} for action in actions]
    fields = {"gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["1"] * len(steps), **options}
    assert server.post("submit", fields).status == 200
    server.settle()


def seen(server, gid):
    """The transaction, and its operations by branch and name; HTTP and JSON-RPC show the same."""
    shown = server.get("query", gid=gid).json()
    assert server.jsonrpc("query", {"gid": gid}).json()["result"] == shown
    assert server.get("all", gid=gid).json()["transactions"] == [shown["transaction"]]
    return shown["transaction"], {row["branch_id"] + row["op"]: row for row in shown["branches"]}


def test_a_branch_shows_how_often_it_failed_and_why(server, bank):
    bank.always("/error", ERROR)
    bank.always("/gone", Say(404, b"no such page"))
    dead = f"http://127.0.0.1:{free_port()}/dead"
    words = {bank.url("/error"): "500: internal server error", bank.url("/gone"): "404: no such page", dead: "connect"}
    for number, (url, text) in enumerate(words.items()):
        gid = f"stuck{number}"
        submit(server, gid, url)

        transaction, rows = seen(server, gid)
        assert (transaction["attempts"], transaction["status"]) == (1, "submitted")
        assert transaction["next_cron_time"] > transaction["update_time"]
        assert (rows["01action"]["tries"], rows["01action"]["status"]) == (1, "prepared")
        assert text in rows["01action"]["error"]
        assert not {"tries", "error"} & set(rows["01compensate"])

        server.cron(plus=400, look_ahead=0)
        transaction, rows = seen(server, gid)
        assert (transaction["attempts"], rows["01action"]["tries"]) == (2, 2)

    for answer in (
        server.get("wait", gid="stuck0", seconds=1),
        server.jsonrpc("wait", {"gid": "stuck0", "seconds": 1}),
    ):
        reply = answer.json()
        assert "500" in reply.get("result", reply)["branches"][1]["error"]


def test_what_has_no_trouble_looks_as_dtm_writes_it(server, bank):
    submit(server, "fine", bank.url("/a"), wait_result=True)
    transaction, rows = seen(server, "fine")
    assert not {"attempts", "error", "parked"} & set(transaction)
    assert not {"tries", "error"} & {*rows["01action"], *rows["01compensate"]}


def test_what_was_mended_keeps_its_tries_and_loses_its_error(server, bank):
    bank.script("/a", [ERROR])
    submit(server, "mended", bank.url("/a"))
    server.cron(plus=30, look_ahead=0)
    _, rows = seen(server, "mended")
    assert (rows["01action"]["status"], rows["01action"]["tries"]) == ("succeed", 1)
    assert "error" not in rows["01action"]


def test_words_that_clients_look_for_are_in_no_answer_because_of_an_error(server, bank):
    bank.always("/bad", FAILURE)
    bank.always("/bad/undo", ONGOING)
    submit(server, "undoing", bank.url("/bad"))
    reply = server.get("query", gid="undoing").json()
    assert {row["op"]: row["error"] for row in reply["branches"]} == {
        "compensate": '{"dtm_result":"ongoing"}',
        "action": f"url:{bank.url('/bad')} return failed: reason:refused. failure",
    }

    bank.always("/a", Say(500, b"FAILURE and ONGOING"))
    submit(server, "unclear", bank.url("/a"))
    for answer in (server.get("query", gid="unclear"), server.jsonrpc("query", {"gid": "unclear"})):
        assert b"failure and ongoing" in answer.body
        assert b"FAILURE" not in answer.body
        assert b"ONGOING" not in answer.body


def eventually(condition):
    """Wait until it holds; fails after the test kit's patience."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def check_back(server, bank):
    fields = {"gid": "asked", "trans_type": "msg", "query_prepared": bank.url("/ask"), "timeout_to_fail": 10}
    fields |= {"steps": [{"action": bank.url("/a")}], "payloads": ["1"]}
    assert server.post("prepare", fields).status == 200
    server.clock.shift(60)
    return "asked"


def wake_up(server, bank):
    data = json.dumps({"name": "pay", "data": base64.b64encode(b"1").decode()})
    fields = {"gid": "woken", "trans_type": "workflow", "query_prepared": bank.url("/ask"), "custom_data": data}
    assert server.post("prepareWorkflow", fields).status == 200
    server.clock.shift(60)
    return "woken"


@pytest.mark.parametrize("start", [check_back, wake_up])
def test_a_call_that_is_no_branch_shows_its_error_at_the_transaction(server, bank, start):
    bank.always("/ask", ERROR)
    gid = start(server, bank)
    server.cron(look_ahead=0)

    transaction, _ = seen(server, gid)
    assert (transaction["attempts"], transaction["error"]) == (1, "HTTP status 500: internal server error")
    with GrpcClient(server.grpc_address) as client:
        assert client.transactions("Get", {"gid": gid}).error == transaction["error"]

    bank.always("/ask", ONGOING)
    server.cron(plus=400, look_ahead=0)
    assert "internal" not in seen(server, gid)[0].get("error", "")
    server.post("forceStop", {"gid": gid})
    assert "error" not in seen(server, gid)[0]


def test_a_transaction_that_waits_for_a_host_that_does_not_answer_says_so(bank):
    silent = threading.Event()

    def hang(_):
        silent.wait(PATIENCE_SECONDS * 2)
        return HANG_UP

    with LocalServer(request_timeout=60) as server:
        bank.always("/dead", HANG_UP)
        for number in range(SUSPECT_AFTER):
            submit(server, f"first{number}", bank.url("/dead"))
        bank.on("/silent", hang)
        for number in range(PROBES):
            fields = {"gid": f"probe{number}", "trans_type": "saga", "steps": [{"action": bank.url("/silent")}]}
            server.post("submit", {**fields, "payloads": [""]})
        eventually(lambda: len([call for call in bank.calls if call.path == "/silent"]) == PROBES)
        fields = {"gid": "rationed", "trans_type": "saga", "steps": [{"action": bank.url("/silent")}]}
        server.post("submit", {**fields, "payloads": [""]})
        eventually(lambda: "error" in seen(server, "rationed")[0])
        silent.set()
        transaction, _ = seen(server, "rationed")
    assert transaction["error"] == "the participant's host does not answer; calls to it are rationed"


@pytest.mark.parametrize("protocol", ["http", "json-rpc", "grpc"])
def test_the_sdk_shows_the_same_over_every_protocol(server, bank, protocol):
    base = server.url.removesuffix("/api/dtmsvr")
    url = {"http": base, "json-rpc": f"{base}/api/json-rpc", "grpc": f"grpc://{server.grpc_address}"}[protocol]
    bank.always("/error", ERROR)
    submit(server, "stuck", bank.url("/error"))
    gid = check_back(server, bank)
    bank.always("/ask", ERROR)
    server.cron(look_ahead=0)
    with Client(url) as client:
        found, asked = client.get("stuck"), client.get(gid)
    branches = {branch.op: branch for branch in found.branches}
    assert (branches["action"].tries, branches["action"].error) == (2, "HTTP status 500: internal server error")
    assert (branches["compensate"].tries, branches["compensate"].error) == (0, "")
    assert (found.attempts, found.error, asked.attempts) == (2, "", 1)
    assert asked.error == "HTTP status 500: internal server error"
