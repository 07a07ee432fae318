"""Every bad input gets its exact reply, the process lives on, and nothing is stored."""

from __future__ import annotations

import json

import pytest

from reefknot.testing.server import ServerProcess
from wire import bad_http, bad_jsonrpc
from wire.bad_case import NOWHERE, msg, tcc_branch

TABLE = [*bad_http.TABLE, *bad_jsonrpc.TABLE]
HOUR = 3600


def prepare_store(server):
    """What the table's requests refer to."""
    empty = [{"action": "", "compensate": ""}]
    requests = [
        ("submit", {"gid": "done", "trans_type": "saga", "steps": empty, "payloads": ["1"], "wait_result": True}),
        ("prepare", {"gid": "stopped", "trans_type": "tcc"}),
        ("forceStop", {"gid": "stopped"}),
        ("prepare", {"gid": "open", "trans_type": "tcc", "timeout_to_fail": HOUR}),
        ("registerBranch", tcc_branch(branch_id="01")),
        ("prepare", msg(gid="letter", query_prepared=NOWHERE, timeout_to_fail=HOUR)),
        ("prepareWorkflow", {"gid": "flow", "trans_type": "workflow", "retry_interval": HOUR}),
        (
            "registerBranch",
            {"gid": "flow", "trans_type": "workflow", "branch_id": "01", "op": "action", "status": "succeed"},
        ),
    ]
    for verb, fields in requests:
        answer = server.post(verb, fields)
        assert answer.status == 200, answer
    assert server.get("subscribe", topic="news", url=NOWHERE).status == 200


def dump(server):
    """Everything that the store shows."""
    transactions = server.get("all", limit=1000).json()
    details = [server.get("query", gid=one["gid"]).json() for one in transactions["transactions"]]
    return transactions, details, server.get("scanKV", cat="topics").json()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad_input")
    with ServerProcess(f"sqlite:///{folder}/store.db", log=folder / "log") as server:
        prepare_store(server)
        yield server


@pytest.fixture(scope="module")
def before(server):
    return dump(server)


@pytest.mark.parametrize("bad", TABLE, ids=[bad.name for bad in TABLE])
def test_exact_reply_and_nothing_stored(server, before, bad):
    answer = server.send(bad.method, bad.path, bad.body)
    assert (answer.status, answer.content_type, answer.body) == (bad.status, bad.content_type, bad.reply)
    assert server.alive
    assert dump(server) == before


def test_no_request_of_the_table_was_an_internal_error(server, before):
    assert server.alive
    assert "request failed" not in server.log_text()
    assert len(before[0]["transactions"]) == 5


def test_the_table_is_long_and_every_name_is_once_in_it():
    assert len(TABLE) >= 90
    assert len({bad.name for bad in TABLE}) == len(TABLE)


def test_every_error_names_its_field_or_state(server):
    """No text is a type name of ours, a stack trace, or empty."""
    for bad in TABLE:
        if bad.status in (400, 413, 500):
            answer = json.loads(bad.reply)
            text = answer["message"] if "message" in answer else answer["error"]["message"]
            assert len(text) > 9
            assert "Traceback" not in text
            assert "internal error" not in text
