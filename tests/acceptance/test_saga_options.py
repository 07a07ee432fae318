"""Options of sagas: waiting, intervals, time limits, headers, the retry limit."""

import re

import pytest

from reefknot.testing.participant import ERROR, FAILURE, ONGOING, Say


@pytest.mark.conformance("TestSagaOptionsRetryOngoing")
def test_saga_options_retry_ongoing(app, bank):
    bank.script("/TransOut", [ONGOING])
    gid = app.submit(app.saga("TransOut", retry_interval=150))
    assert app.state(gid) == ("submitted", "PP")
    assert app.server.cron(look_ahead=130) == []
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PS")


@pytest.mark.conformance("TestSagaOptionsRetryError")
def test_saga_options_retry_error(app, bank):
    bank.script("/TransOut", [ERROR])
    gid = app.submit(app.saga("TransOut", retry_interval=150))
    assert app.state(gid) == ("submitted", "PP")
    assert app.field(gid, "next_cron_interval") == 300
    assert app.server.cron() == []
    app.cron(gid, look_ahead=360)
    assert app.state(gid) == ("succeed", "PS")


@pytest.mark.conformance("TestSagaOptionsTimeout")
def test_saga_options_timeout(app, bank):
    bank.script("/TransOut", [ONGOING])
    gid = app.submit(app.saga(timeout_to_fail=1800))
    assert app.state(gid) == ("submitted", "PPPP")
    app.cron(gid, plus=3600)
    assert app.state(gid) == ("failed", "SPPP")
    assert re.fullmatch(r"Timeout after \d+ seconds", app.reason(gid))
    assert app.called(gid) == ["/TransOut", "/TransOutRevert"]


@pytest.mark.conformance("TestSagaGlobalTransWithRequestTimeout")
def test_saga_global_trans_with_request_timeout(app):
    gid = app.submit(app.saga(request_timeout=6, wait_result=True))
    assert app.state(gid) == ("succeed", "PSPS")


@pytest.mark.conformance("TestSagaOptionsNormalWait")
def test_saga_options_normal_wait(app, server):
    gid = app.submit(app.saga(wait_result=True))
    assert server.status(gid) == "succeed"
    assert server.branches(gid) == ["prepared", "succeed"] * 2


@pytest.mark.conformance(
    "TestSagaOptionsCommittedOngoingWait", differs="the error is 425 ONGOING: nothing was rolled back"
)
def test_saga_options_committed_ongoing_wait(app, bank, server):
    bank.script("/TransOut", [ONGOING])
    body = app.saga(wait_result=True)
    gid = body["gid"]
    answer = server.post("submit", body)
    assert (answer.status, answer.json()["dtm_result"]) == (425, "ONGOING")
    assert app.state(gid) == ("submitted", "PPPP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")


@pytest.mark.conformance("TestSagaOptionsRollbackWait")
def test_saga_options_rollback_wait(app, bank, server):
    bank.script("/TransIn", [Say(409, b"reason:Insufficient balance. FAILURE")])
    body = app.saga(wait_result=True)
    answer = server.post("submit", body)
    assert (answer.status, answer.json()["dtm_result"]) == (409, "FAILURE")
    assert "Insufficient balance" in answer.json()["message"]
    assert answer.json()["message"].endswith("FAILURE")
    assert app.state(body["gid"]) == ("failed", "SSSF")
    assert "Insufficient balance" in app.reason(body["gid"])


@pytest.mark.conformance("TestSagaHeaders")
def test_saga_headers(app, bank):
    gid = app.submit(app.saga(branch_headers={"test_header": "test"}, wait_result=True))
    assert app.state(gid) == ("succeed", "PSPS")
    assert [call.headers["test_header"] for call in bank.calls] == ["test", "test"]


@pytest.mark.conformance("TestSagaHeadersYes1")
def test_saga_headers_yes1(app, bank):
    bank.script("/TransOut", [ONGOING])
    gid = app.submit(app.saga(branch_headers={"test_header": "test"}))
    assert app.state(gid)[0] == "submitted"
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")
    assert [call.headers["test_header"] for call in bank.calls] == ["test"] * 3


@pytest.mark.conformance("TestSagaGlobalTransWithRetryLimitYes")
def test_saga_global_trans_with_retry_limit_yes(app, bank):
    bank.script("/TransIn", [ERROR, ERROR, ERROR])
    gid = app.submit(app.saga(retry_limit=3, wait_result=True))
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid) == ["/TransOut"] + ["/TransIn"] * 4


@pytest.mark.conformance("TestSagaGlobalTransWithRetryLimitNo")
def test_saga_global_trans_with_retry_limit_no(app, bank, server):
    bank.script("/TransIn", [ERROR, ERROR])
    body = app.saga(retry_limit=1, wait_result=True)
    answer = server.post("submit", body)
    assert answer.status == 409
    assert app.state(body["gid"]) == ("failed", "SSSP")
    assert app.reason(body["gid"]) == "RetryCount is greater than RetryLimit, RetryLimit: 1"
    assert app.called(body["gid"]) == ["/TransOut", "/TransIn", "/TransIn", "/TransInRevert", "/TransOutRevert"]


@pytest.mark.conformance("LiveSagaWithoutSteps")
def test_saga_without_steps(app):
    gid = app.submit({"gid": app.server.new_gid(), "trans_type": "saga", "wait_result": True})
    assert app.state(gid) == ("succeed", "")


@pytest.mark.conformance("LiveRequestTimeout", differs="the error is 425 ONGOING: the action may still succeed")
def test_request_timeout(app, bank, server):
    bank.script("/TransOut", [Say(seconds=1.5)])
    body = app.saga(request_timeout=1, wait_result=True)
    answer = server.post("submit", body)
    assert (answer.status, answer.json()["dtm_result"]) == (425, "ONGOING")
    assert app.state(body["gid"]) == ("submitted", "PPPP")
    assert app.field(body["gid"], "next_cron_interval") == 20


@pytest.mark.conformance("LiveStatus201", differs="every 2xx is a success")
def test_status_201_is_a_success(app, bank):
    bank.script("/TransOut", [Say(201)])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.deviation("Q21")
@pytest.mark.conformance(
    "LiveFailureInBody", differs="a 500 whatever its body says is unknown and called again; a rule for DTM's way exists"
)
def test_failure_in_body_of_500(app, bank, serve):
    bank.script("/TransIn", [Say(500, b"xFAILUREx")])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("submitted", "PSPP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")
    as_dtm = serve(result_matching="substring")
    bank.script("/TransIn", [Say(500, b"xFAILUREx")])
    app.server = as_dtm
    gid = app.submit(app.saga())
    assert app.state(gid) == ("failed", "SSSF")


@pytest.mark.conformance("TestSagaCompatibleNormal")
def test_saga_compatible_normal(app, bank, server):
    gid = server.new_gid()
    steps = ", ".join(
        f'{{"action":"{bank.url(path)}","compensate":"{bank.url(path)}Revert","data":"{{\\"amount\\":30}}"}}'
        for path in ("/TransOut", "/TransIn")
    )
    raw = f'{{"gid":"{gid}","trans_type":"saga","steps":[{steps}]}}'
    assert server.post("submit", raw.encode()).status == 200
    assert app.state(gid) == ("succeed", "PSPS")
    assert [call.body for call in bank.calls] == [b'{"amount":30}'] * 2


@pytest.mark.parametrize("refusal", [FAILURE, Say(200, b'{"dtm_result":"FAILURE"}')], ids=["409", "200"])
def test_a_refusal_in_both_forms_rolls_back(app, bank, refusal):
    bank.script("/TransIn", [refusal])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("failed", "SSSF")
