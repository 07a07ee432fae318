"""Sagas, in order: done, rolled back, interrupted."""

import pytest

from reefknot.testing.participant import ERROR, FAILURE, ONGOING, Say

#: Every row through both doors.
pytestmark = pytest.mark.parametrize("app", ["http", "json-rpc"], indirect=True)


@pytest.mark.conformance("TestSagaNormal")
def test_saga_normal(app):
    gid = app.submit(app.saga())
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.reason(gid) == ""
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestSagaRollback")
def test_saga_rollback(app, bank):
    bank.script("/TransIn", [Say(409, b"reason:Insufficient balance. FAILURE")])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("failed", "SSSF")
    assert "Insufficient balance" in app.reason(gid)
    assert app.called(gid) == ["/TransOut", "/TransIn", "/TransInRevert", "/TransOutRevert"]


@pytest.mark.conformance("TestSagaOngoingSucceed")
def test_saga_ongoing_succeed(app, bank):
    bank.script("/TransOut", [ONGOING])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("submitted", "PPPP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.reason(gid) == ""


@pytest.mark.conformance("TestSagaFailed")
def test_saga_failed(app, bank):
    bank.script("/TransIn", [FAILURE])
    bank.script("/TransOutRevert", [ERROR])
    gid = app.submit(app.saga())
    assert app.state(gid)[0] == "aborting"
    app.cron(gid)
    assert app.state(gid) == ("failed", "SSSF")
    assert app.called(gid).count("/TransOutRevert") == 2
    assert app.called(gid).count("/TransInRevert") == 1


@pytest.mark.conformance(
    "TestSagaAbnormal",
    differs="a submit repeated with the same content has the same answer after the end too; other content is refused",
)
def test_saga_abnormal(app, bank, server):
    bank.script("/TransOut", [ONGOING])
    body = app.saga()
    gid = app.submit(body)
    assert app.state(gid) == ("submitted", "PPPP")
    app.submit(body)
    app.cron(gid, look_ahead=0)  # due at once: the second submit woke it
    assert app.state(gid) == ("succeed", "PSPS")
    app.submit(body)
    other = app.post("submit", app.saga("Elsewhere", gid=gid))
    assert (other.status, other.json()["dtm_result"]) == (409, "FAILURE")
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid) == ["/TransOut", "/TransOut", "/TransIn"]


@pytest.mark.conformance("TestSagaEmptyUrl")
def test_saga_empty_url(app, bank):
    body = app.saga()
    body["steps"] = [{"action": bank.url("/TransOut"), "compensate": ""}, {"action": "", "compensate": ""}]
    gid = app.submit(body)
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid) == ["/TransOut"]
