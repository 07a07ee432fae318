"""What docs/operations.md tells an operator to do works as it stands there."""

import json
import re
import shlex
import time
from pathlib import Path

import pytest

from reefknot.config.secret import Secret
from reefknot.testing.participant import ERROR, OK, Participant, Say
from reefknot.testing.server import PATIENCE_SECONDS, LocalServer

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


@pytest.fixture
def bank():
    with Participant() as bank:
        yield bank


def submit(server, gid, url):
    fields = {"gid": gid, "trans_type": "saga", "steps": [{"action": url}], "payloads": ["1"]}
    assert server.post("submit", fields).status == 200
    server.settle()


def curl(server, verb):
    """Send the page's request of that verb."""
    [line] = re.findall(rf"^\$ curl (.*/api/dtmsvr/{verb}\b.*)$", PAGE, re.MULTILINE)
    *data, url = [part for part in shlex.split(line) if part != "-d"]
    path = url.removeprefix("http://127.0.0.1:36789")
    return server.send("POST", path, data[0].encode()) if data else server.send("GET", path)


def test_a_stuck_transaction_shows_what_the_page_says_and_is_tried_again(bank):
    with LocalServer() as server:
        bank.always("/uot", Say(404, b"no such page"))
        submit(server, "transfer-1", bank.url("/uot"))
        for _ in range(2):
            server.cron(plus=400, look_ahead=0)
        reply = server.get("query", gid="transfer-1").json()
        [shown] = re.findall(r"^```json\n(\{\"transaction\".*?)```", PAGE, re.MULTILINE | re.DOTALL)
        page = json.loads(shown.replace(", …", "").replace("http://bank:8081/uot", bank.url("/uot")))
        rows = [row for row in reply["branches"] if row["op"] == "action"]
        assert page["branches"] == [{name: rows[0][name] for name in page["branches"][0]}]
        told = {name: reply["transaction"][name] for name in page["transaction"]}
        assert told | {"next_cron_time": ""} == page["transaction"] | {"next_cron_time": ""}
        assert [found["gid"] for found in server.get("all", status="submitted").json()["transactions"]] == [
            "transfer-1"
        ]

        bank.always("/uot", OK)
        assert curl(server, "resetNextCronTime").status == 200
        assert server.cron(look_ahead=0) == ["transfer-1"]
        assert server.status("transfer-1") == "succeed"


def test_what_is_due_later_is_tried_again_and_what_is_stopped_calls_nobody(bank):
    with LocalServer(retry_interval=300) as server:
        bank.always("/uot", ERROR)
        submit(server, "transfer-1", bank.url("/uot"))
        assert server.cron(look_ahead=0) == []
        assert curl(server, "resetCronTime").json() == {"has_remaining": False, "succeed_count": 1}
        assert server.cron(look_ahead=0) == ["transfer-1"]
        calls = len(bank.calls)
        assert curl(server, "forceStop").status == 200
        assert server.status("transfer-1") == "failed"
        assert server.cron(look_ahead=86_400) == []
        assert len(bank.calls) == calls


def test_one_more_failure_parks_again_what_was_parked(bank):
    with LocalServer(max_attempts=2) as server:
        bank.always("/uot", ERROR)
        submit(server, "transfer-1", bank.url("/uot"))
        server.cron(plus=400, look_ahead=0)
        for _ in range(2):
            assert "parked" in server.get("query", gid="transfer-1").json()["transaction"]["ext_data"]
            assert curl(server, "resetNextCronTime").status == 200
            assert "ext_data" not in server.get("query", gid="transfer-1").json()["transaction"]
            assert server.cron(look_ahead=0) == ["transfer-1"]


def test_the_pages_program_knows_a_genuine_alert_of_that_form(bank):
    [program] = re.findall(r"^```python\n(import hashlib.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(program, "docs/operations.md", "exec"), names)
    hook = Secret(bank.url("/hook"))
    with LocalServer(alert_web_hook=hook, alert_web_hook_secret=Secret("key"), alert_retry_limit=3) as server:
        bank.always("/uot", Say(404, b"no such page"))
        submit(server, "transfer-1", bank.url("/uot"))
        for _ in range(2):
            server.cron(plus=400, look_ahead=0)
        until = time.monotonic() + PATIENCE_SECONDS
        while not (alerts := [call for call in bank.calls if call.path == "/hook"]):
            assert time.monotonic() < until
            time.sleep(0.01)
    [alert] = alerts
    [shown] = re.findall(r"^```json\n(\{\"gid\".*?)\n```", PAGE, re.MULTILINE)
    assert alert.body.decode() == shown.replace("http://bank:8081/uot", bank.url("/uot"))
    signature = alert.headers["X-Reefknot-Signature"]
    assert names["is_genuine"]("key", alert.body, signature)
    assert not names["is_genuine"]("key", alert.body + b" ", signature)
    assert not names["is_genuine"]("other", alert.body, signature)
    assert not names["is_genuine"]("key", alert.body, "")
