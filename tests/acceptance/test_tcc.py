"""TCC: the client registers and tries, the server confirms or cancels."""

import re

import pytest

from reefknot.testing.participant import ERROR, FAILURE, ONGOING, Say

#: Every row through both doors.
pytestmark = pytest.mark.parametrize("app", ["http", "json-rpc"], indirect=True)

SAID_SUCCESS = Say(200, b'{"dtm_result":"SUCCESS"}')
SAID_FAILURE = Say(200, b'{"dtm_result":"FAILURE"}')
SAID_ONGOING = Say(200, b'{"dtm_result":"ONGOING"}')


def tried(app, gid, *names):
    """Register and try branches 01, 02, ...; whether the last try succeeded."""
    for number, name in enumerate(names, start=1):
        answer = app.tcc_branch(gid, name, f"{number:02d}")
    return answer.status == 200 and b"FAILURE" not in answer.body


@pytest.mark.conformance("TestTccNormal")
def test_tcc_normal(app, bank):
    gid = app.begin("tcc")
    assert tried(app, gid, "TransOut", "TransIn")
    assert app.state(gid) == ("prepared", "PPPP")
    assert app.end("tcc", gid).status == 200
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid)[:2] == ["/TransOut", "/TransIn"]
    assert sorted(app.called(gid)[2:]) == ["/TransInConfirm", "/TransOutConfirm"]
    confirm = next(call for call in bank.calls if call.path == "/TransOutConfirm")
    assert (confirm.method, confirm.op, confirm.branch_id, confirm.mode) == ("POST", "confirm", "01", "tcc")
    assert confirm.body == b'{"amount": 30}'


@pytest.mark.conformance("TestTccCompatible")
def test_tcc_compatible(app, server):
    gid = app.begin("tcc", custom_data="", wait_result=False)
    branch = {"gid": gid, "trans_type": "tcc", "branch_id": "01", "op": None, "try": app.bank.url("/TransOut")}
    branch |= {"confirm": app.bank.url("/TransOutConfirm"), "cancel": app.bank.url("/TransOutRevert"), "data": "{}"}
    assert server.post("registerTccBranch", branch).status == 200
    assert app.tcc_branch(gid, "TransIn", "02").status == 200
    assert app.end("tcc", gid).status == 200
    assert app.state(gid) == ("succeed", "PSPS")


@pytest.mark.conformance("TestTccOldNormal")
def test_tcc_old_normal(app, bank):
    for path in ("/TransOut", "/TransIn", "/TransOutConfirm", "/TransInConfirm"):
        bank.always(path, SAID_SUCCESS)
    gid = app.begin("tcc")
    assert tried(app, gid, "TransOut", "TransIn")
    assert app.end("tcc", gid).status == 200
    assert app.state(gid) == ("succeed", "PSPS")


def rolled_back(app, gid):
    """The second try was refused: abort with the client's reason, a cancel ongoing once."""
    assert not tried(app, gid, "TransOut", "TransIn")
    assert app.abort("tcc", gid, "reason:refused. FAILURE").status == 200
    assert app.state(gid) == ("aborting", "PPSP")
    app.cron(gid)
    assert app.state(gid) == ("failed", "SPSP")
    assert app.reason(gid) == "reason:refused. FAILURE"
    assert app.called(gid).count("/TransInRevert") == 1
    assert app.called(gid).count("/TransOutRevert") == 2


@pytest.mark.conformance("TestTccRollback")
def test_tcc_rollback(app, bank):
    bank.script("/TransIn", [FAILURE])
    bank.script("/TransOutRevert", [ONGOING])
    rolled_back(app, app.begin("tcc"))


@pytest.mark.conformance("TestTccOldRollback")
def test_tcc_old_rollback(app, bank):
    bank.script("/TransIn", [SAID_FAILURE])
    bank.script("/TransOutRevert", [SAID_ONGOING])
    rolled_back(app, app.begin("tcc"))


@pytest.mark.conformance("TestTccTimeout", "TestTccOldTimeout")
def test_tcc_timeout(app):
    gid = app.begin("tcc")
    assert tried(app, gid, "TransOut")
    app.cron(gid, plus=300)
    late = app.register_tcc(gid, "TransIn", "02")
    assert (late.status, late.json()["dtm_result"]) == (409, "FAILURE")
    assert late.json()["message"] == f"no trans with gid: {gid} status: prepared found FAILURE"
    assert app.state(gid) == ("failed", "SP")
    assert re.fullmatch(r"Timeout after \d+ seconds", app.reason(gid))
    assert app.end("tcc", gid).status == 409
    assert app.abort("tcc", gid).status == 409


@pytest.mark.conformance("TestTccHeaders")
def test_tcc_headers(app, bank):
    gid = app.begin("tcc", branch_headers={"test_header": "test"})
    assert app.register_tcc(gid, "TransOut", "01", phase_two=False).status == 200
    assert app.call("/TransOut", gid, "tcc", "01", "try", test_header="test").status == 200
    assert app.tcc_branch(gid, "TransIn", "02").status == 200
    assert app.end("tcc", gid).status == 200
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid) == ["/TransOut", "/TransIn", "/TransInConfirm"]
    assert bank.calls[-1].headers["test_header"] == "test"


@pytest.mark.conformance("TestTccCoverPanic", part="the abort that the client sends; raising again is its own")
def test_tcc_cover_panic(app):
    gid = app.begin("tcc")
    assert app.abort("tcc", gid, "panic: user panic").status == 200
    assert app.state(gid) == ("failed", "")
    assert app.reason(gid) == "panic: user panic"
    assert app.server.cron() == []


@pytest.mark.conformance("TestTccNested")
def test_tcc_nested(app):
    gid = app.begin("tcc")
    assert app.tcc_branch(gid, "TransOut", "01").status == 200
    assert app.tcc_branch(gid, "TransInNested", "02").status == 200
    assert app.tcc_branch(gid, "TransIn", "0201").status == 200
    assert app.end("tcc", gid).status == 200
    assert app.state(gid) == ("succeed", "PSPSPS")
    assert sorted(app.called(gid)[3:]) == ["/TransInConfirm", "/TransInNestedConfirm", "/TransOutConfirm"]


def test_tcc_barrier_disorder(app, bank):
    """Cancel is called twice while the try is under way; what the barrier makes of it is shown in tests/sdk."""
    gid = app.begin("tcc")
    assert app.register_tcc(gid, "TransOut", "01").status == 200
    bank.script("/TransOutRevert", [ERROR])
    app.cron(gid, plus=300)
    assert app.state(gid) == ("aborting", "PP")
    app.cron(gid, plus=300)
    assert app.state(gid) == ("failed", "SP")
    assert app.call("/TransOut", gid, "tcc", "01", "try").status == 200
    assert app.called(gid) == ["/TransOutRevert", "/TransOutRevert", "/TransOut"]


@pytest.mark.conformance("LiveTccSubmitWithoutPrepare")
def test_tcc_submit_without_prepare(app, server):
    gid = server.new_gid()
    assert app.end("tcc", gid).status == 200
    assert app.state(gid) == ("succeed", "")


@pytest.mark.deviation("Q13")
@pytest.mark.conformance("LiveTccDefaultTimeoutReason", differs="the reason names the timeout that applied")
def test_tcc_default_timeout_reason(app):
    gid = app.begin("tcc")
    app.cron(gid, plus=300)
    assert app.state(gid) == ("failed", "")
    assert app.reason(gid) == "Timeout after 35 seconds"


@pytest.mark.deviation("abort")
@pytest.mark.conformance("LiveRepeatedAbort", differs="the first reason is kept: it is why the rollback was decided")
def test_repeated_abort(app, bank):
    bank.script("/TransOutRevert", [ONGOING])
    gid = app.begin("tcc")
    assert tried(app, gid, "TransOut")
    assert app.abort("tcc", gid, "first").status == 200
    assert app.state(gid) == ("aborting", "PP")
    assert app.abort("tcc", gid, "second").status == 200
    assert app.reason(gid) == "first"
    app.cron(gid, look_ahead=0)
    assert app.state(gid) == ("failed", "SP")


@pytest.mark.conformance("LivePhaseTwoOrder", differs="branches start in DTM's order and do not wait for each other")
@pytest.mark.parametrize(
    ("mode", "order"), [("tcc", ["confirm 02", "confirm 01"]), ("xa", ["commit 01", "commit 02"])], ids=["tcc", "xa"]
)
def test_phase_two_order(app, bank, mode, order):
    gid = app.begin(mode)
    for branch_id in ("01", "02"):
        register = app.register_tcc if mode == "tcc" else app.register_xa
        assert register(gid, "TransOut", branch_id).status == 200
    # Both are slow: had the second waited for the first, it would have started after the first's end.
    for path in ("/TransOutConfirm", "/TransOutXa"):
        bank.always(path, Say(seconds=0.2))
    assert app.end(mode, gid).status == 200
    assert app.state(gid) == ("succeed", "PSPS")
    first, second = bank.calls
    assert sorted(f"{call.op} {call.branch_id}" for call in (first, second)) == sorted(order)
    assert second.started < first.ended


@pytest.mark.conformance("LivePhaseTwoMethods")
def test_phase_two_methods(app, bank, server):
    gid = app.begin("tcc")
    fields = {"gid": gid, "trans_type": "tcc", "branch_id": "01", "data": "", "confirm": "", "try": ""}
    assert app.post("registerBranch", {**fields, "cancel": bank.url("/TransOutRevert")}).status == 200
    assert app.abort("tcc", gid).status == 200
    assert app.state(gid) == ("failed", "SP")
    assert (bank.calls[0].method, bank.calls[0].body) == ("GET", b"")
    gid = app.begin("xa")
    assert app.register_xa(gid, "TransOut", "01").status == 200
    assert app.end("xa", gid).status == 200
    assert app.state(gid) == ("succeed", "PS")
    assert (bank.calls[1].method, bank.calls[1].body) == ("POST", b"")


def test_an_abort_names_the_mode(app):
    gid = app.begin("tcc")
    for wrong in ({}, {"trans_type": ""}, {"trans_type": "xa"}):
        answer = app.post("abort", {"gid": gid, **wrong})
        assert answer.status == 409
        assert answer.json()["message"] == "trans type: 'tcc' current status 'prepared', cannot abort. FAILURE"
    assert app.state(gid) == ("prepared", "")
    assert app.post("abort", {"gid": "unknown", "trans_type": "tcc"}).status == 500
