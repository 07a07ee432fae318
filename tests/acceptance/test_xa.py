"""XA: participants register and prepare their databases, the server commits or rolls back."""

import re

import pytest

from reefknot.testing.participant import ERROR, OK, ONGOING

#: Every row through both doors.
pytestmark = pytest.mark.parametrize("app", ["http", "json-rpc"], indirect=True)


def registered(app, gid, *names):
    """Branches 01, 02, ... whose participants prepared their databases."""
    for number, name in enumerate(names, start=1):
        branch_id = f"{number:02d}"
        assert app.call(f"/{name}Xa", gid, "xa", branch_id, "action").status == 200
        assert app.register_xa(gid, name, branch_id).status == 200


@pytest.mark.conformance("TestXaNormal")
def test_xa_normal(app, bank):
    gid = app.begin("xa")
    registered(app, gid, "TransOut", "TransIn")
    assert app.end("xa", gid).status == 200
    assert app.state(gid) == ("succeed", "PSPS")
    phase_two = [call for call in bank.calls if call.op == "commit"]
    assert sorted((call.branch_id, call.path) for call in phase_two) == [("01", "/TransOutXa"), ("02", "/TransInXa")]
    assert {(call.method, call.body, call.mode) for call in phase_two} == {("POST", b"", "xa")}


@pytest.mark.conformance("TestXaDuplicate", part="the participant that has committed already is scripted")
def test_xa_duplicate(app, bank):
    gid = app.begin("xa")
    registered(app, gid, "TransOut", "TransIn")
    assert app.call("/TransOutXa", gid, "xa", "01", "commit").status == 200
    assert app.end("xa", gid).status == 200
    assert app.state(gid) == ("succeed", "PSPS")
    assert [call.branch_id for call in bank.calls if call.op == "commit"].count("01") == 2


@pytest.mark.conformance("TestXaRollback")
def test_xa_rollback(app, bank):
    gid = app.begin("xa")
    registered(app, gid, "TransOut")
    bank.script("/TransInXa", [ERROR])
    assert app.call("/TransInXa", gid, "xa", "02", "action").status == 500
    assert app.abort("xa", gid).status == 200
    assert app.state(gid) == ("failed", "SP")
    assert [(call.op, call.branch_id) for call in bank.calls[2:]] == [("rollback", "01")]


@pytest.mark.conformance("TestXaLocalError")
def test_xa_local_error(app):
    gid = app.begin("xa")
    assert app.abort("xa", gid).status == 200
    assert app.state(gid) == ("failed", "")
    assert app.server.cron() == []


@pytest.mark.conformance("TestXaTimeout")
def test_xa_timeout(app):
    gid = app.begin("xa")
    app.cron(gid, plus=300)
    assert app.state(gid) == ("failed", "")
    assert re.fullmatch(r"Timeout after \d+ seconds", app.reason(gid))
    late = app.end("xa", gid)
    assert (late.status, late.json()["dtm_result"]) == (409, "FAILURE")


@pytest.mark.conformance("TestXaNotTimeout")
def test_xa_not_timeout(app, bank):
    gid = app.begin("xa")
    app.cron(gid)
    assert app.state(gid) == ("prepared", "")
    registered(app, gid, "TransOut")
    bank.script("/TransOutXa", [ONGOING])
    assert app.end("xa", gid).status == 200
    assert app.state(gid) == ("submitted", "PP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PS")


@pytest.mark.conformance("TestXaCoverDBError", part="the participant's broken database is a scripted error")
def test_xa_cover_db_error(app, bank):
    gid = app.begin("xa")
    registered(app, gid, "TransOut")
    bank.always("/TransOutXa", ERROR)
    assert app.abort("xa", gid).status == 200
    assert app.state(gid) == ("aborting", "PP")
    bank.always("/TransOutXa", OK)
    app.cron(gid, plus=500)
    assert app.state(gid) == ("failed", "SP")


@pytest.mark.conformance(
    "TestXaCoverGidError", part="the gid reaches the participant unchanged; its SQL is the client's"
)
def test_xa_cover_gid_error(app, bank, server):
    gid = server.new_gid() + "'\" OR 1=1 --"
    app.prepare({"gid": gid, "trans_type": "xa"})
    assert app.register_xa(gid, "TransOut", "01").status == 200
    assert app.abort("xa", gid).status == 200
    assert app.state(gid) == ("failed", "SP")
    assert [(call.gid, call.op) for call in bank.calls] == [(gid, "rollback")]
