"""Messages: delivered, asked back, refused, delayed, to many at once."""

import json
import time

import pytest

from reefknot.config import Secret
from reefknot.testing.participant import ERROR, FAILURE, ONGOING

#: Every row through both doors.
pytestmark = pytest.mark.parametrize("app", ["http", "json-rpc"], indirect=True)


@pytest.mark.conformance("TestMsgNormal")
def test_msg_normal(app, server):
    gid = app.submit(app.msg())
    assert server.status(gid) in {"submitted", "succeed"}
    assert app.state(gid) == ("succeed", "SS")
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestMsgTimeoutSuccess")
def test_msg_timeout_success(app, bank):
    gid = app.prepare(app.msg())
    bank.script("/QueryPrepared", [ONGOING])
    app.cron(gid, plus=180)
    assert app.state(gid) == ("prepared", "PP")
    bank.script("/TransIn", [ONGOING])
    app.cron(gid, plus=180)
    assert app.state(gid) == ("submitted", "SP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "SS")
    assert app.called(gid) == ["/QueryPrepared", "/QueryPrepared", "/TransOut", "/TransIn", "/TransIn"]
    query = bank.calls[0]
    assert (query.method, query.branch_id, query.op, query.mode, query.body) == ("GET", "00", "msg", "msg", b"")


@pytest.mark.conformance("TestMsgTimeoutFailed")
def test_msg_timeout_failed(app, bank):
    gid = app.prepare(app.msg())
    bank.script("/QueryPrepared", [ONGOING, FAILURE])
    app.cron(gid, plus=360)
    assert app.state(gid) == ("prepared", "PP")
    app.cron(gid, plus=180)
    assert app.state(gid) == ("failed", "PP")
    assert app.called(gid) == ["/QueryPrepared"] * 2


@pytest.mark.conformance("TestMsgAbnormal")
def test_msg_abnormal(app, server):
    body = app.msg()
    gid = app.prepare(body)
    app.prepare(body)
    app.submit(body)
    assert app.state(gid) == ("succeed", "SS")
    refused = app.post("prepare", body)
    assert refused.status == 409
    assert refused.json()["dtm_result"] == "FAILURE"
    assert refused.json()["message"] == "current status 'succeed', cannot prepare. FAILURE"
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestMsgTopicNotFoundFailed")
def test_msg_topic_not_found_failed(app, server):
    body = app.msg("topic://nobody_subscribed")
    answer = app.post("submit", body)
    assert answer.status == 500
    assert "topic not found" in answer.json()["message"]
    assert server.status(body["gid"]) == ""


@pytest.mark.conformance("TestMsgOptionsTimeout")
def test_msg_options_timeout(app):
    gid = app.prepare(app.msg())
    app.cron(gid)
    assert app.state(gid) == ("prepared", "PP")
    assert app.called(gid) == []
    app.cron(gid, plus=60)
    assert app.state(gid) == ("succeed", "SS")


@pytest.mark.conformance("TestMsgOptionsTimeoutCustom")
def test_msg_options_timeout_custom(app):
    gid = app.prepare(app.msg(timeout_to_fail=120))
    app.cron(gid)
    assert app.state(gid) == ("prepared", "PP")
    app.cron(gid, plus=60)
    assert app.state(gid) == ("prepared", "PP")
    assert app.called(gid) == []
    app.cron(gid, plus=180)
    assert app.state(gid) == ("succeed", "SS")


@pytest.mark.conformance("TestMsgOptionsTimeoutFailed")
def test_msg_options_timeout_failed(app, bank):
    bank.always("/QueryPrepared", FAILURE)
    gid = app.prepare(app.msg(timeout_to_fail=120))
    app.cron(gid, plus=60)
    assert app.state(gid) == ("prepared", "PP")
    app.cron(gid, plus=180)
    assert app.state(gid) == ("failed", "PP")


@pytest.mark.conformance("TestMsgConcurrent")
def test_msg_concurrent(app):
    gid = app.submit(app.msg(concurrent=True))
    assert app.state(gid) == ("succeed", "SS")
    assert sorted(app.called(gid)) == ["/TransIn", "/TransOut"]


@pytest.mark.conformance("TestMsgDelayNormal")
def test_msg_delay_normal(app):
    gid = app.submit(app.msg(custom_data=json.dumps({"delay": 10})))
    assert app.state(gid) == ("submitted", "PP")
    assert app.server.cron(look_ahead=0) == []
    assert app.server.cron(look_ahead=8) == []
    app.cron(gid, plus=12, look_ahead=0)
    assert app.state(gid) == ("succeed", "SS")


def failing_three_times(app, bank):
    """A msg whose second target fails at the submit and in two rounds of recovery."""
    bank.script("/TransIn", [ERROR, ERROR, ERROR])
    gid = app.submit(app.msg())
    assert app.state(gid) == ("submitted", "SP")
    for _ in range(2):
        assert [path for path in app.bank.called() if path == "/Hook"] == []
        app.cron(gid)
    assert app.state(gid) == ("submitted", "SP")
    return gid


def hook_calls(bank, number):
    """The calls of the web hook, once there are so many."""
    until = time.monotonic() + 10
    while bank.called().count("/Hook") < number and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.05)
    return [call for call in bank.calls if call.path == "/Hook"]


@pytest.mark.conformance("TestMsgWebhook")
def test_msg_webhook(app, bank, serve):
    app.server = serve(alert_web_hook=Secret(bank.url("/Hook")))
    gid = failing_three_times(app, bank)
    [call] = hook_calls(bank, 1)
    alert = json.loads(call.body)
    assert list(alert) == ["gid", "status", "branch", "error", "retry_count"]
    assert (alert["gid"], alert["status"], alert["retry_count"]) == (gid, "submitted", 3)
    assert alert["branch"] == bank.url("/TransIn")
    assert "internal server error" in alert["error"]
    app.cron(gid)
    assert app.state(gid) == ("succeed", "SS")


@pytest.mark.conformance("TestMsgWebhookError")
def test_msg_webhook_error(app, bank, serve):
    app.server = serve(alert_web_hook=Secret(bank.url("/Hook")))
    bank.script("/Hook", [ERROR])
    gid = failing_three_times(app, bank)
    assert [call.status for call in hook_calls(bank, 2)] == [500, 200]
    app.cron(gid)
    assert app.state(gid) == ("succeed", "SS")
