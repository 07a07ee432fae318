"""Where Reefknot differs from DTM on purpose: one test for each line of docs/compatibility.md.

Some lines have their test beside the row of DTM's own tests that they change; the marker
``deviation`` says so. The lines about settings and the command are in test_differences_operation.py.
"""

import json
import threading
import time

import pytest

from reefknot.testing.participant import ERROR, FAILURE, HANG_UP, OK, ONGOING, Say

MESSAGE = "message"


def refusal(answer):
    """Status, dtm_result if there is one, and text of an error."""
    fields = answer.json()
    return answer.status, fields.get("dtm_result"), fields[MESSAGE]


@pytest.mark.deviation("Q2")
def test_q2_wait_result_tells_unfinished_from_rolled_back(app, bank, server):
    bank.script("/TransOut", [ONGOING])
    status, result, text = refusal(server.post("submit", app.saga(wait_result=True)))
    assert (status, result) == (425, "ONGOING")
    assert "submitted" in text
    assert "FAILURE" not in text
    bank.script("/TransOut", [FAILURE])
    body = app.saga(wait_result=True)
    status, result, text = refusal(server.post("submit", body))
    assert (status, result, text.endswith("FAILURE")) == (409, "FAILURE", True)
    assert server.status(body["gid"]) == "failed"
    # A bound set by the client: its own request timeout.
    bank.script("/TransOut", [Say(seconds=1.3)])
    body = app.saga(wait_result=True, request_timeout=1)
    assert refusal(server.post("submit", body))[:2] == (425, "ONGOING")


@pytest.mark.deviation("Q3", "Q41")
def test_q3_repeated_submit_starts_nothing_twice(app, bank, server):
    bank.script("/TransOut", [Say(seconds=0.3)])
    body = app.saga()
    gid = app.submit(body)
    for _ in range(5):
        app.submit(body)
    for other in (app.saga("Elsewhere", gid=gid), app.msg(gid=gid)):
        assert refusal(server.post("submit", other))[:2] == (409, "FAILURE")
    assert app.state(gid) == ("succeed", "PSPS")
    app.submit(body)
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.deviation("Q3")
def test_q3_repeated_submit_after_a_rollback_is_refused_with_the_reason(app, bank, server):
    bank.script("/TransIn", [FAILURE])
    body = app.saga()
    gid = app.submit(body)
    assert app.state(gid) == ("failed", "SSSF")
    status, result, text = refusal(server.post("submit", body))
    assert (status, result) == (409, "FAILURE")
    assert "reason:refused" in text
    assert app.called(gid).count("/TransOut") == 1


@pytest.mark.deviation("Q4")
def test_q4_a_call_longer_than_the_lease_is_made_once(app, bank, serve):
    app.server = serve(poll=True, lease_seconds=1, retry_interval=1, request_timeout=10)
    bank.script("/TransOut", [Say(seconds=2.5)])
    gid = app.submit(app.saga())
    assert app.server.wait_for(gid, "succeed")
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.deviation("Q4")
def test_q4_a_driver_that_was_overruled_records_and_calls_nothing_more(app, bank, server):
    bank.script("/TransOut", [Say(seconds=0.3)])
    gid = app.submit(app.saga())
    assert server.post("forceStop", {"gid": gid}).status == 200
    time.sleep(0.4)
    assert app.state(gid) == ("failed", "PPPP")
    assert app.called(gid) in ([], ["/TransOut"])


@pytest.mark.deviation("Q5")
def test_q5_long_texts_are_kept_or_refused_at_the_door(app, bank, server):
    bank.script("/TransIn", [Say(409, b"x" * 5000)])
    payload = json.dumps({"note": "y" * 200_000})
    gid = app.submit(app.saga(payloads=[payload, payload]))
    assert app.state(gid) == ("failed", "SSSF")
    assert bank.calls[0].body == payload.encode()
    assert "truncated" in app.reason(gid)
    assert 1000 < len(app.reason(gid)) < 2000
    gid = app.begin("tcc")
    assert app.abort("tcc", gid, "z" * 5000).status == 200
    assert app.state(gid) == ("failed", "")
    status, _, text = refusal(server.post("submit", app.saga(gid="g" * 200)))
    assert (status, text.partition(":")[0]) == (400, "gid")
    status, _, text = refusal(server.post("submit", app.saga(branch_headers={"k": "v" * 10_000})))
    assert (status, text.partition(":")[0]) == (413, "branch_headers")


@pytest.mark.deviation("Q6")
@pytest.mark.parametrize(("mode", "op"), [("tcc", "Confirm"), ("xa", "Xa")], ids=["tcc", "xa"])
def test_q6_a_dead_branch_does_not_hold_the_others(app, bank, mode, op):
    register = app.register_tcc if mode == "tcc" else app.register_xa
    gid = app.begin(mode)
    for number, name in enumerate(("One", "Two", "Three"), start=1):
        assert register(gid, name, f"0{number}").status == 200
    bank.script(f"/Two{op}", [ERROR])
    assert app.end(mode, gid).status == 200
    assert app.state(gid) == ("submitted", "PSPPPS")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPSPS")
    assert len(app.called(gid)) == 4


@pytest.mark.deviation("Q8")
def test_q8_recovery_drives_many_at_once(app, bank, server):
    bank.always("/TransOut", ONGOING)
    gids = [app.submit(app.saga("TransOut", request_timeout=30)) for _ in range(20)]
    server.settle()
    # Long enough for a busy machine to begin all of them in.
    bank.always("/TransOut", Say(seconds=2.0))
    before, started = len(bank.calls), time.monotonic()
    assert sorted(server.cron()) == sorted(gids)
    assert time.monotonic() - started < 2.0 * 20 / 2
    calls = bank.calls[before:]
    assert max(call.started for call in calls) < min(call.ended for call in calls)
    assert {app.state(gid) for gid in gids} == {("succeed", "PS")}


@pytest.mark.deviation("Q7")
def test_q7_codes_of_jsonrpc_branches_count(app, bank):
    def answer(code):
        return Say(body=json.dumps({"jsonrpc": "2.0", "id": "1", "error": {"code": code, "message": "m"}}).encode())

    step = {"action": bank.url("/JsonRpc?method=TransIn"), "compensate": ""}
    bank.script("/JsonRpc", [answer(-32902), answer(-32603), answer(-32901)])
    gid = app.submit(app.saga("TransIn", steps=[step], protocol="json-rpc"))
    assert (app.state(gid), app.field(gid, "next_cron_interval")) == (("submitted", "PP"), 10)
    app.cron(gid)
    assert (app.state(gid), app.field(gid, "next_cron_interval")) == (("submitted", "PP"), 20)
    app.cron(gid)
    assert app.state(gid) == ("failed", "SF")


@pytest.mark.deviation("Q9", "Q44")
def test_q9_options_of_the_submit_are_stored(app, bank):
    body = app.msg()
    gid = app.prepare(body)
    bank.script("/TransOut", [ONGOING])
    options = {"branch_headers": {"test_header": "test"}, "retry_interval": 40, "custom_data": '{"delay":10}'}
    app.submit({**body, **options})
    assert app.state(gid) == ("submitted", "PP")
    assert app.field(gid, "custom_data") == '{"delay":10}'
    assert json.loads(app.field(gid, "options"))["retry_interval"] == 40
    assert app.server.cron(look_ahead=8) == []
    app.cron(gid, plus=12, look_ahead=0)
    assert app.field(gid, "next_cron_interval") == 40
    app.cron(gid)
    assert app.state(gid) == ("succeed", "SS")
    assert [call.headers["test_header"] for call in bank.calls] == ["test"] * 3


@pytest.mark.deviation("Q12")
def test_q12_the_end_of_a_workflow_is_checked_and_changes_nothing_else(app, server):
    custom = '{"name":"w","data":null}'
    fields = {"gid": server.new_gid(), "trans_type": "workflow", "query_prepared": app.bank.url("/w")}
    before = server.post("prepareWorkflow", {**fields, "custom_data": custom, "retry_interval": 40}).json()[
        "transaction"
    ]
    for extra in ({}, {"status": ""}, {"status": "done"}):
        status, _, text = refusal(server.post("submit", {**fields, "req_extra": extra}))
        assert (status, text.partition(":")[0]) == (400, "req_extra.status")
    assert server.status(fields["gid"]) == "prepared"
    end = {"gid": fields["gid"], "trans_type": "workflow", "req_extra": {"status": "succeed", "result": "r"}}
    assert server.post("submit", end).status == 200
    after = server.get("query", gid=fields["gid"]).json()["transaction"]
    for name in ("create_time", "query_prepared", "custom_data", "options"):
        assert after[name] == before[name]
    assert (after["status"], after["result"]) == ("succeed", "r")


@pytest.mark.deviation("Q15")
def test_q15_a_deleted_topic_is_forgotten_and_a_new_one_counts_at_once(app, bank, server):
    for path in ("/Old", "/Older"):
        assert server.get("subscribe", topic="t", url=bank.url(path)).status == 200
    assert server.send("DELETE", "/api/dtmsvr/topic/t").status == 200
    assert "topic not found" in refusal(server.post("submit", app.msg("topic://t")))[2]
    assert server.get("subscribe", topic="t", url=bank.url("/New")).status == 200
    gid = app.submit(app.msg("topic://t"))
    assert app.state(gid) == ("succeed", "S")
    assert app.called(gid) == ["/New"]


@pytest.mark.deviation("Q17")
def test_q17_metrics_are_labelled_with_the_route_only(server):
    server.get("query", gid="a-gid-of-its-own")
    text = server.send("GET", "/api/metrics").body.decode()
    assert 'api="query"' in text
    assert "a-gid-of-its-own" not in text


@pytest.mark.deviation("Q18")
def test_q18_every_topic_is_known_among_many(app, bank, server):
    for number in range(40):
        assert server.get("subscribe", topic=f"t{number}", url=bank.url(f"/t{number}")).status == 200
    server.run(server.node.topics.refresh())
    gid = app.submit(app.msg("topic://t17", "topic://t39"))
    assert app.state(gid) == ("succeed", "SS")
    assert app.called(gid) == ["/t17", "/t39"]


@pytest.mark.deviation("Q19")
def test_q19_a_gid_that_begins_like_another_has_its_own_branches(app, server):
    for gid in ("pp", "pp0", "pp01"):
        app.prepare({"gid": gid, "trans_type": "tcc"})
        for branch_id in ("01", "101"):
            assert app.register_tcc(gid, "TransOut", branch_id).status == 200
    app.submit({"gid": "pp0", "trans_type": "tcc"})
    assert app.state("pp0") == ("succeed", "PSPS")
    assert app.state("pp") == app.state("pp01") == ("prepared", "PPPP")
    assert [row["gid"] for row in server.get("query", gid="pp").json()["branches"]] == ["pp"] * 4


@pytest.mark.deviation("Q20")
@pytest.mark.parametrize("gid", ["a;b", "a\nb", "a\rb", "a\x00b"])
def test_q20_a_gid_that_clients_would_change_is_refused_everywhere(app, server, gid):
    for verb in ("prepare", "submit", "abort", "forceStop", "resetNextCronTime", "prepareWorkflow"):
        mode = "workflow" if verb == "prepareWorkflow" else "tcc"
        status, _, text = refusal(server.post(verb, {"gid": gid, "trans_type": mode}))
        assert (status, text.partition(":")[0]) == (400, "gid")
    branch = {"gid": gid, "trans_type": "tcc", "branch_id": "01"}
    assert refusal(server.post("registerBranch", branch))[0] == 400
    assert "gid" in server.jsonrpc("submit", {"gid": gid, "trans_type": "tcc"}).json()["error"][MESSAGE]
    assert server.get("all", limit=10).json()["transactions"] == []


@pytest.mark.deviation("Q21")
def test_q21_a_result_is_not_found_by_a_word_somewhere(app, bank):
    bank.script("/TransOut", [Say(200, b'{"note":"no FAILURE and nothing ONGOING"}')])
    bank.script("/TransIn", [Say(409, b'{"note":"ONGOING"}')])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("failed", "SSSF")
    for body in (b'{"dtm_result":"FAILURE"}', b"FAILURE"):
        bank.script("/TransOut", [Say(200, body)])
        gid = app.submit(app.saga())
        assert app.state(gid) == ("failed", "SFPP")
    for body in (b'{"dtm_result":"ONGOING"}', b"ONGOING"):
        bank.script("/TransOut", [Say(200, body)])
        gid = app.submit(app.saga())
        assert app.state(gid) == ("submitted", "PPPP")


@pytest.mark.deviation("Q22")
@pytest.mark.parametrize("status", [201, 202, 204])
def test_q22_every_2xx_is_a_success(app, bank, status):
    bank.script("/TransOut", [Say(status, b"")])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.deviation("Q24", "parked")
@pytest.mark.conformance("LiveMsgWithoutQueryPrepared", differs="it is parked: nobody knows what was committed")
def test_q24_a_msg_that_cannot_be_asked_back_is_parked(app):
    body = app.msg(query_prepared="")
    gid = app.prepare(body)
    app.cron(gid, plus=60)
    assert app.state(gid) == ("prepared", "PP")
    assert "query_prepared" in json.loads(app.field(gid, "ext_data"))["parked"]
    assert app.server.cron(plus=86_400) == []
    assert app.called(gid) == []
    app.submit(body)
    assert app.state(gid) == ("succeed", "SS")
    assert app.field(gid, "ext_data") is None


@pytest.mark.deviation("Q26")
def test_q26_a_workflow_is_called_back_with_backoff(app, bank, server):
    bank.script("/w", [ERROR, ERROR, ONGOING])
    fields = {"gid": server.new_gid(), "trans_type": "workflow", "query_prepared": bank.url("/w")}
    assert server.post("prepareWorkflow", {**fields, "custom_data": '{"name":"w"}', "retry_interval": 20}).status == 200
    gid, intervals = fields["gid"], []
    for _ in range(3):
        app.cron(gid)
        intervals.append(app.field(gid, "next_cron_interval"))
    assert intervals == [40, 80, 80]
    assert app.state(gid) == ("prepared", "")


@pytest.mark.deviation("Q27")
def test_q27_the_interval_has_a_cap(app, bank, serve):
    app.server = serve(retry_interval_max=30)
    bank.always("/TransOut", ERROR)
    gid = app.submit(app.saga("TransOut"))
    intervals = []
    for _ in range(4):
        app.state(gid)
        intervals.append(app.field(gid, "next_cron_interval"))
        app.cron(gid)
    assert intervals == [20, 30, 30, 30]
    assert app.server.cron(look_ahead=26) == []
    app.cron(gid, look_ahead=34)


@pytest.mark.deviation("Q27")
def test_q27_a_limit_of_attempts_parks_until_an_operator_comes(app, bank, serve):
    app.server = serve(max_attempts=2)
    bank.script("/TransOut", [ERROR, ERROR])
    gid = app.submit(app.saga("TransOut"))
    app.state(gid)
    app.cron(gid)

    assert "gave up after 2 failed visits" in app.field(gid, "ext_data")
    assert app.server.cron(look_ahead=86_400) == []
    app.server.post("resetNextCronTime", {"gid": gid})
    app.cron(gid, look_ahead=0)
    assert app.state(gid) == ("succeed", "PS")


@pytest.mark.deviation("Q27")
def test_q27_a_host_that_answers_again_wakes_what_waited_for_it(app, bank, server):
    bank.always("/TransOut", HANG_UP)
    gids = [app.submit(app.saga("TransOut")) for _ in range(3)]
    server.settle()
    assert server.cron(look_ahead=0) == []
    bank.always("/TransOut", OK)
    app.submit(app.saga("TransOut"))
    server.settle()
    until = time.monotonic() + 5
    found = []
    while len(found) < 3 and time.monotonic() < until:
        found += server.cron(look_ahead=0)
    assert sorted(found) == sorted(gids)
    assert {app.state(gid) for gid in gids} == {("succeed", "PS")}


@pytest.mark.deviation("Q28")
def test_q28_the_retry_limit_pauses_counts_per_branch_and_not_the_ongoing(app, bank):
    bank.script("/TransOut", [ERROR, ERROR])
    bank.script("/TransIn", [ERROR, ERROR, ONGOING])
    gid = app.submit(app.saga(retry_limit=2))
    assert app.state(gid) == ("submitted", "PSPP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")
    first, second, third = (call for call in bank.calls if call.path == "/TransOut")
    assert second.started - first.ended >= 0.04
    assert third.started - second.ended >= 0.09


@pytest.mark.deviation("Q30")
def test_q30_topics_change_while_they_are_used(app, bank, server):
    assert server.get("subscribe", topic="t", url=bank.url("/Stays")).status == 200
    done = threading.Event()

    def change():
        while not done.is_set():
            server.get("subscribe", topic="t", url=bank.url("/Comes"))
            server.run(server.node.topics.refresh())
            server.get("unsubscribe", topic="t", url=bank.url("/Comes"))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        gids = [app.submit(app.msg("topic://t")) for _ in range(30)]
    finally:
        done.set()
        changing.join()
    server.settle()
    assert {server.status(gid) for gid in gids} == {"succeed"}
    assert all("/Stays" in app.called(gid) for gid in gids)


@pytest.mark.deviation("Q35")
def test_q35_a_wrong_request_says_what_is_wrong(app, server):
    cases = [
        ({"trans_type": "nonsense"}, 500, "'nonsense' is no transaction mode"),
        ({"trans_type": ""}, 500, "is no transaction mode"),
        ({"gid": ""}, 500, "gid: is empty"),
        ({"payloads": ["{}"]}, 500, "2 steps but 1 payloads"),
        ({"custom_data": '{"orders":{"7":[0]}}'}, 400, "orders names step 7"),
    ]
    for change, wanted, text in cases:
        answer = server.post("submit", {**app.saga(), **change})
        assert (answer.status, text in answer.json()[MESSAGE]) == (wanted, True), answer
        assert "runtime error" not in answer.json()[MESSAGE]
    assert server.get("all", limit=10).json()["transactions"] == []


@pytest.mark.deviation("Q39")
def test_q39_a_finished_workflow_is_listed_by_its_creation(server):
    fields = {"gid": server.new_gid(), "trans_type": "workflow"}
    assert server.post("prepareWorkflow", {**fields, "custom_data": '{"name":"w"}'}).status == 200
    assert server.post("submit", {**fields, "req_extra": {"status": "succeed"}}).status == 200
    now_ms = server.clock.now_ms()
    found = server.get("all", createTimeStart=now_ms - 60_000, createTimeEnd=now_ms + 60_000).json()
    assert [one["gid"] for one in found["transactions"]] == [fields["gid"]]
    assert found["transactions"][0]["create_time"]


@pytest.mark.deviation("Q40")
def test_q40_a_prepared_saga_costs_nothing_until_its_submit(app):
    body = app.saga()
    gid = app.prepare(body)
    assert app.server.cron(plus=30 * 86_400) == []
    app.submit(body)
    assert app.state(gid) == ("succeed", "PSPS")


@pytest.mark.deviation("Q43")
def test_q43_has_remaining_is_exact(app, bank, server):
    bank.always("/TransOut", ONGOING)
    for _ in range(2):
        app.submit(app.saga("TransOut", retry_interval=1000))
    server.settle()
    assert server.get("resetCronTime", timeout=500, limit=2).json() == {"has_remaining": False, "succeed_count": 2}


@pytest.mark.deviation("Q54")
def test_q54_a_client_cannot_write_the_servers_fields(app, bank):
    bank.script("/TransOut", [ONGOING])
    theirs = {"id": 777, "owner": "me", "result": "r", "rollback_reason": "mine", "status": "succeed"}
    theirs |= {"finish_time": "2020-01-01T00:00:00Z", "rollback_time": "2020-01-01T00:00:00Z", "ext_data": "x"}
    gid = app.submit(app.saga(**theirs, create_time="2020-01-01T00:00:00Z"))
    assert app.state(gid) == ("submitted", "PPPP")
    shown = app.server.get("query", gid=gid).json()["transaction"]
    assert shown["id"] != 777
    assert not {"owner", "result", "rollback_reason", "finish_time", "rollback_time", "ext_data"} & set(shown)
    assert not shown["create_time"].startswith("2020")


@pytest.mark.deviation("Q59")
@pytest.mark.parametrize(
    "custom_data",
    ["nonsense", '{"orders":{"9":[0]}}', '{"orders":{"0":[1],"1":[0]}}', '{"orders":{"1":[-1]}}', '{"concurrent":"x"}'],
)
def test_q59_custom_data_that_cannot_work_is_refused_at_once(app, server, custom_data):
    body = app.saga(custom_data=custom_data)
    status, _, text = refusal(server.post("submit", body))
    assert (status, text.partition(":")[0]) == (400, "custom_data")
    assert server.status(body["gid"]) == ""


@pytest.mark.deviation("W5")
def test_w5_no_compensation_while_the_action_runs(app, bank):
    bank.script("/TransOut", [FAILURE])
    bank.script("/TransIn", [Say(seconds=0.3)])
    gid = app.submit(app.saga(custom_data='{"concurrent":true}'))
    assert app.state(gid) == ("failed", "SFSS")
    calls = {call.path: call for call in bank.calls}
    assert calls["/TransInRevert"].started >= calls["/TransIn"].ended


@pytest.mark.deviation("W9")
@pytest.mark.parametrize("status", [301, 302, 307])
def test_w9_redirects_are_not_followed(app, bank, status):
    bank.script("/TransOut", [Say(status, b"", headers=(("Location", bank.url("/Elsewhere")),))])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("submitted", "PPPP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid) == ["/TransOut", "/TransOut", "/TransIn"]


@pytest.mark.deviation("register")
def test_a_repeated_registration_is_no_conflict_unless_it_differs(app, server):
    gid = app.begin("tcc")
    assert [app.register_tcc(gid, "TransOut", "01").status for _ in range(2)] == [200, 200]
    status, result, text = refusal(app.register_tcc(gid, "TransIn", "01"))
    assert (status, result) == (409, "FAILURE")
    assert "UniqueKeyConflict" in text
    assert app.state(gid) == ("prepared", "PP")
