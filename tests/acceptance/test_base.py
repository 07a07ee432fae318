"""The server as such: its start, ids, settings of DTM that change nothing here, small rules."""

import pytest

from acceptance.application import Application
from reefknot.config import load
from reefknot.engine.schedule import base_interval_seconds, interval_seconds
from reefknot.errors import ConfigError
from reefknot.model import Options
from reefknot.testing.participant import ERROR
from reefknot.testing.server import ServerProcess


@pytest.mark.conformance("TestMain")
def test_main(bank, tmp_path):
    """A server process that starts, does what it is asked, and nothing else while its recovery runs."""
    server = ServerProcess(f"sqlite:///{tmp_path}/main.db", environment={"REEFKNOT_TRANS_CRON_INTERVAL": "1"})
    app = Application(server, bank)
    with server:
        for path in ("/TransOut", "/TransIn"):
            assert server.get("subscribe", topic="http_trans", url=bank.url(path)).status == 200
        gid = app.submit(app.msg("topic://http_trans", wait_result=True))
        assert (server.status(gid), server.branches(gid)) == ("succeed", ["succeed"] * 2)
        app.prepare(app.msg())
        assert server.stop() == 0
    assert app.called(gid) == ["/TransOut", "/TransIn"]
    assert len(bank.calls) == 2


@pytest.mark.conformance("TestMustGenGid")
def test_must_gen_gid(server):
    answer = server.get("newGid").json()
    assert answer["dtm_result"] == "SUCCESS"
    # Two of one millisecond have no order.
    assert len({"", answer["gid"], server.jsonrpc("newGid", {}).json()["result"]["gid"]}) == 3


@pytest.mark.conformance("TestUpdateBranchAsync", differs="UpdateBranchSync 0 is read and results are durable anyway")
def test_update_branch_async(serve, bank):
    app = Application(serve(update_branch_sync=0), bank)
    gid = app.submit(app.saga("TransOut", wait_result=True))
    assert app.state(gid) == ("succeed", "PS")
    fields = {
        "gid": app.server.new_gid(),
        "trans_type": "workflow",
        "query_prepared": "",
        "custom_data": '{"name":"w"}',
    }
    assert app.server.post("prepareWorkflow", fields).status == 200
    step = {"gid": fields["gid"], "trans_type": "workflow", "branch_id": "01", "op": "action", "status": "succeed"}
    for _ in range(2):
        assert app.server.post("registerBranch", step).status == 200
    assert app.server.post("registerBranch", {**step, "gid": "unknown"}).status == 409
    assert app.server.post("submit", {**fields, "req_extra": {"status": "succeed"}}).status == 200
    assert app.state(fields["gid"]) == ("succeed", "S")


@pytest.mark.conformance("UnitNextCronInterval")
def test_next_cron_interval(app, bank):
    assert base_interval_seconds(Options(retry_seconds=15), 10) == 15
    assert base_interval_seconds(Options(), 10) == 10
    assert interval_seconds(10, 1, 300) == 20
    assert base_interval_seconds(Options(timeout_seconds=3), 10) == 3
    bank.always("/TransOut", ERROR)
    gid = app.submit(app.saga("TransOut"))
    app.state(gid)
    assert app.field(gid, "next_cron_interval") == 20
    app.cron(gid)
    assert app.field(gid, "next_cron_interval") == 40


@pytest.mark.conformance("UnitConfig", part="names and refused values; RetryInterval below 10 is only warned about")
def test_config():
    assert load(environ={"MICRO_SERVICE_DRIVER": "etcd"}).config.micro_service.driver == "etcd"
    for key, value in (("STORE_DRIVER", "oracle"), ("HTTP_PORT", "http"), ("REQUEST_TIMEOUT", "0")):
        with pytest.raises(ConfigError, match=key):
            load(environ={key: value})
    assert load(environ={"RETRY_INTERVAL": "9"}).notices


@pytest.mark.conformance("UnitStoreCleanup")
@pytest.mark.anyio
async def test_store_cleanup(store):
    from reefknot.model import Status
    from reefknot.testing.conformance.store.building import finish, new, prepared, row, submit

    for gid in ("done", "open"):
        await store.create(prepared(gid))
        assert await store.register(gid, "tcc", (row("01", "cancel"), row("01", "confirm")))
    decided = await store.decide(submit("done"))
    assert await store.write(finish("done", owner=decided.owner, epoch=decided.epoch))
    await store.create(new("running"))
    assert await store.purge(3_600_000, 100) == 0
    assert await store.purge(-1, 100) == 1
    assert await store.get("done") is None
    kept = await store.get("open")
    assert (kept.status, len(kept.branches)) == (Status.PREPARED, 2)
    assert (await store.get("running")).status is Status.SUBMITTED
    await store.create(prepared("done"))
    assert (await store.get("done")).branches == ()


@pytest.mark.conformance("UnitReplies", part="the server's replies; those of a business handler wait for the SDK")
def test_replies(server):
    for method in ("GET", "POST", "PUT"):
        answer = server.send(method, "/api/ping")
        assert (answer.status, answer.body) == (200, b'{"msg":"pong"}')
    value = server.get("resetCronTime")
    assert (value.status, value.body) == (200, b'{"has_remaining":false,"succeed_count":0}')
    error = server.get("query")
    assert (error.status, list(error.json())) == (500, ["message"])
    assert error.content_type == "application/json; charset=utf-8"
    for answer in (server.send("GET", "/api/nowhere"), server.send("GET", "/api/dtmsvr/submit")):
        assert (answer.status, answer.body) == (404, b"404 page not found")
