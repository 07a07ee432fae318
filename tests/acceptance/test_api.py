"""Reading and operating: version, query, listing, keys, forced stop, visits, metrics."""

import json
from datetime import UTC, datetime

import pytest

from reefknot.testing.participant import ERROR, ONGOING


@pytest.mark.conformance("TestAPIVersion")
def test_api_version(server):
    answer = server.get("version")
    assert answer.status == 200
    assert answer.json()["version"]


@pytest.mark.conformance("TestAPIQuery")
def test_api_query(app, server):
    gid = app.submit(app.msg())
    assert app.state(gid) == ("succeed", "SS")
    found = server.get("query", gid=gid).json()
    assert (found["transaction"]["gid"], found["transaction"]["trans_type"]) == (gid, "msg")
    assert [(row["branch_id"], row["op"]) for row in found["branches"]] == [("01", "action"), ("02", "action")]
    missing = server.get("query", gid="")
    assert (missing.status, "no gid specified" in missing.json()["message"]) == (500, True)
    unknown = server.get("query", gid="1")
    assert (unknown.status, unknown.json()) == (200, {"branches": [], "transaction": None})


@pytest.mark.conformance("TestAPIAll")
def test_api_all(app, server):
    gids = [app.submit(app.msg()) for _ in range(3)]
    saga = app.submit(app.saga())
    server.settle()
    first = server.get("all", limit=1).json()
    assert len(first["transactions"]) == 1
    assert first["next_position"]
    assert [one["gid"] for one in server.get("all", gid=gids[0]).json()["transactions"]] == [gids[0]]
    assert server.get("all", gid="1").json() == {"next_position": "", "transactions": None}
    second = server.get("all", limit=1, position=first["next_position"]).json()
    assert second["next_position"] not in {"", first["next_position"]}
    everything = server.get("all", limit=1000).json()
    assert everything["next_position"] == ""
    assert sorted(one["gid"] for one in everything["transactions"]) == sorted([*gids, saga])
    now_ms, minute = server.clock.now_ms(), 60_000
    window = {"createTimeStart": now_ms - minute, "createTimeEnd": now_ms + minute}
    found = server.get("all", status="succeed", transType="msg", limit=10, **window).json()
    assert found["next_position"] == ""
    assert sorted(one["gid"] for one in found["transactions"]) == sorted(gids)
    assert {(one["trans_type"], one["status"]) for one in found["transactions"]} == {("msg", "succeed")}
    earlier = {"createTimeStart": now_ms - 10 * minute, "createTimeEnd": now_ms - 5 * minute}
    found = server.get("all", status="succeed", transType="msg", limit=10, **earlier).json()
    assert found == {"next_position": "", "transactions": []}


@pytest.mark.deviation("Q16", "Q38")
def test_api_all_walks_through_everything_once(app, server):
    gids = {app.submit(app.saga("TransOut")) for _ in range(7)}
    seen, position = [], ""
    while True:
        page = server.get("all", limit=3, position=position).json()
        seen += [one["gid"] for one in page["transactions"]]
        position = page["next_position"]
        if not position:
            break
    assert (len(seen), set(seen)) == (7, gids)


def test_api_all_refuses_what_is_no_number(server):
    for name in ("limit", "createTimeStart", "createTimeEnd", "position"):
        answer = server.get("all", **{name: "x"})
        assert (answer.status, "convert to int error" in answer.json()["message"]) == (500, True)


@pytest.mark.conformance("TestAPIScanKV")
def test_api_scan_kv(server):
    for name in ("a", "b", "c"):
        assert server.get("subscribe", topic=name, url="http://one.example/").status == 200
    first = server.get("scanKV", cat="topics", limit=1).json()
    assert ([entry["k"] for entry in first["kv"]], bool(first["next_position"])) == (["a"], True)
    second = server.get("scanKV", cat="topics", limit=1, position=first["next_position"]).json()
    assert [entry["k"] for entry in second["kv"]] == ["b"]
    assert second["next_position"] not in {"", first["next_position"]}
    everything = server.get("scanKV", cat="topics", limit=1000).json()
    assert ([entry["k"] for entry in everything["kv"]], everything["next_position"]) == (["a", "b", "c"], "")


@pytest.mark.conformance("TestAPIQueryKV")
def test_api_query_kv(server):
    assert server.get("subscribe", topic="a", url="http://one.example/", remark="x").status == 200
    [entry] = server.get("queryKV", cat="topics", key="a").json()["kv"]
    assert (entry["cat"], entry["k"], entry["version"]) == ("topics", "a", 1)
    assert json.loads(entry["v"]) == [{"url": "http://one.example/", "remark": "x"}]
    assert server.get("queryKV", cat="topics", key="b").json() == {"kv": []}


@pytest.mark.conformance("TestDtmMetrics")
def test_dtm_metrics(app, server):
    gid = app.submit(app.saga())
    app.state(gid)
    answer = server.send("GET", "/api/metrics")
    assert answer.status == 200
    assert b"dtm_transaction_process_total{" in answer.body


@pytest.mark.conformance("TestAPIResetCronTime")
def test_api_reset_cron_time(app, bank, server):
    bank.always("/TransOut", ONGOING)
    for seconds in [200] * 10 + [90]:
        app.submit(app.saga("TransOut", retry_interval=seconds))
    server.settle()

    def reset(later_than, limit):
        answer = server.get("resetCronTime", timeout=later_than, limit=limit).json()
        assert isinstance(answer["has_remaining"], bool)
        return answer["succeed_count"], answer["has_remaining"]

    assert server.cron(look_ahead=2) == []
    assert reset(150, 9) == (9, True)
    assert len(server.cron(look_ahead=2)) == 9
    assert reset(240, 10) == (0, False)
    bank.always("/TransOut", ERROR)
    assert reset(70, 100) == (11, False)
    assert len(server.cron(look_ahead=2)) == 11
    assert server.cron(look_ahead=2) == []


@pytest.mark.conformance("TestAPIForceStoppedNormal")
def test_api_force_stopped_normal(app, bank, server):
    bank.script("/TransOut", [ONGOING])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("submitted", "PPPP")
    answer = server.post("forceStop", {"gid": gid})
    assert (answer.status, answer.json()) == (200, {"dtm_result": "SUCCESS"})
    assert app.state(gid) == ("failed", "PPPP")
    assert server.cron(plus=3600) == []
    assert app.called(gid) == ["/TransOut"]


@pytest.mark.conformance("TestAPIForceStoppedAbnormal")
def test_api_force_stopped_abnormal(app, server):
    gid = app.submit(app.saga())
    assert app.state(gid) == ("succeed", "PSPS")
    answer = server.post("forceStop", {"gid": gid})
    assert answer.status == 409
    message = "global transaction force stop error. status: succeed. error: FAILURE"
    assert answer.json() == {"dtm_result": "FAILURE", "message": message}
    assert app.state(gid) == ("succeed", "PSPS")


@pytest.mark.conformance("TestAPIResetNextCronTime")
def test_api_reset_next_cron_time(app, server):
    gid = app.submit(app.saga())
    assert app.state(gid) == ("succeed", "PSPS")
    before = app.field(gid, "next_cron_time")
    answer = server.post("resetNextCronTime", {"gid": gid})
    assert (answer.status, answer.json()) == (200, {"dtm_result": "SUCCESS"})
    after = app.field(gid, "next_cron_time")
    assert after != before
    now_ms = server.clock.now_ms()
    assert abs(datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp() * 1000 - now_ms) < 3000
    assert server.cron() == []


@pytest.mark.deviation("Q14")
def test_reset_next_cron_time_makes_an_unfinished_one_due(app, bank, server):
    bank.script("/TransOut", [ONGOING])
    gid = app.submit(app.saga())
    assert app.state(gid)[0] == "submitted"
    assert server.cron(look_ahead=0) == []
    assert server.post("resetNextCronTime", {"gid": gid}).status == 200
    app.cron(gid, look_ahead=0)
    assert app.state(gid) == ("succeed", "PSPS")
