"""Differences from DTM that operators see: alerts, settings, stopping, retention, the command."""

import hashlib
import hmac
import json
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from acceptance.application import Application
from reefknot.config import Secret, Store, load
from reefknot.errors import ConfigError
from reefknot.testing.conformance.store.building import due
from reefknot.testing.participant import ERROR, ONGOING, Say
from reefknot.testing.server import Client, ServerProcess, free_port

COMMAND = [sys.executable, "-m", "reefknot"]


def wait_until(found, seconds=10.0):
    """Wait until a function returns something true; what it returns."""
    until = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < until:
        time.sleep(0.02)
    return value


@pytest.fixture
def process(bank, tmp_path):
    """A server process with an empty SQLite file; its client uses it."""
    with ServerProcess(f"sqlite:///{tmp_path}/process.db", environment={"REEFKNOT_RETRY_INTERVAL": "1"}) as server:
        yield Application(server, bank)


@pytest.mark.deviation("Q45")
def test_q45_alerts_are_signed_repeated_and_delay_nothing(app, bank, serve):
    app.server = serve(
        alert_web_hook=Secret(bank.url("/Hook")), alert_web_hook_secret=Secret("key"), alert_retry_limit=1
    )
    bank.script("/Hook", [Say(500, seconds=1.0), Say(200)])
    bank.script("/TransOut", [ERROR])
    started = time.monotonic()
    gid = app.submit(app.saga("TransOut"))
    assert app.state(gid) == ("submitted", "PP")
    assert time.monotonic() - started < 1.0
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PS")
    hooks = wait_until(lambda: [call for call in bank.calls if call.path == "/Hook" and call.status == 200])
    [first, second] = [call for call in bank.calls if call.path == "/Hook"]
    assert (first.status, second) == (500, hooks[0])
    assert first.body == second.body
    signature = "sha256=" + hmac.new(b"key", second.body, hashlib.sha256).hexdigest()
    assert second.headers["X-Reefknot-Signature"] == signature
    assert list(json.loads(second.body)) == ["gid", "status", "branch", "error", "retry_count"]


@pytest.mark.deviation("Q24")
def test_q24_a_parked_transaction_raises_an_alert(app, bank, serve):
    app.server = serve(alert_web_hook=Secret(bank.url("/Hook")))
    gid = app.prepare(app.msg(query_prepared=""))
    app.cron(gid, plus=60)
    [hook] = wait_until(lambda: [call for call in bank.calls if call.path == "/Hook"])
    assert json.loads(hook.body)["gid"] == gid
    assert "query_prepared" in json.loads(hook.body)["error"]


@pytest.mark.deviation("Q31")
def test_q31_the_servers_time_zone_changes_nothing(bank, tmp_path):
    zone = {"TZ": "Pacific/Auckland", "REEFKNOT_RETRY_INTERVAL": "1"}
    with ServerProcess(f"sqlite:///{tmp_path}/zone.db", environment=zone) as server:
        app = Application(server, bank)
        bank.script("/TransOut", [ONGOING])
        gid = app.submit(app.saga("TransOut"))
        assert server.wait_for(gid, "succeed", seconds=5)
        created = datetime.fromisoformat(str(app.field(gid, "create_time")))
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=10)


@pytest.mark.deviation("Q42")
@pytest.mark.anyio
async def test_q42_the_longest_due_is_taken_first(store):
    for gid, seconds in (("second", -20), ("first", -30), ("third", -10)):
        await store.create(due(gid, due_in_ms=seconds * 1000))
    taken = [(await store.claim("node:1", 1, 8_000))[0].record.gid for _ in range(3)]
    assert taken == ["first", "second", "third"]


@pytest.mark.deviation("Q46")
def test_q46_the_environment_beats_the_file_and_unknown_keys_are_errors(tmp_path):
    file = tmp_path / "conf.yml"
    file.write_text("RetryInterval: 20\nHttpPort: 1\n")
    loaded = load(file, environ={"RETRY_INTERVAL": "30"})
    assert (loaded.config.retry_interval, loaded.config.http_port) == (30, 1)
    assert [notice for notice in loaded.notices if "RetryInterval" in notice or "RETRY_INTERVAL" in notice]
    file.write_text("RetryIntervall: 20\n")
    with pytest.raises(ConfigError, match=r"RetryIntervall.*RetryInterval"):
        load(file, environ={})


@pytest.mark.deviation("Q48")
def test_q48_a_stop_finishes_what_is_under_way_and_gives_the_rest_back(process, bank):
    bank.script("/TransOut", [Say(seconds=1.0)])
    gid = process.submit(process.saga())
    assert wait_until(lambda: process.called(gid))
    assert process.server.stop() == 0
    assert process.called(gid) == ["/TransOut", "/TransIn"]
    process.server.start()
    assert process.server.status(gid) == "succeed"
    assert process.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.deviation("Q37", "Q49")
def test_q49_what_is_finished_goes_and_what_is_not_stays(app, bank, serve):
    app.server = server = serve(store=Store(finished_data_expire=60), purge_interval=1)
    bank.script("/TransOut", [ONGOING])
    unfinished = app.submit(app.saga())
    finished, prepared = app.submit(app.saga()), app.prepare(app.msg())
    assert app.state(finished) == ("succeed", "PSPS")
    server.clock.shift(86_400)
    assert wait_until(lambda: server.status(finished) == "")
    assert app.state(unfinished) == ("submitted", "PPPP")
    assert app.state(prepared) == ("prepared", "PP")


def answers(server):
    """Whether a server answers yet."""
    try:
        return server.send("GET", "/api/ping").status == 200
    except OSError:
        return False


def answered_at_a_terminal(answer, *words):
    """Run the command with somebody at the terminal who types one line; its exit code."""
    ours, theirs = os.openpty()
    with subprocess.Popen([*COMMAND, *words], stdin=theirs, stderr=subprocess.DEVNULL) as process:
        os.write(ours, answer)
        code = process.wait(20)
    os.close(theirs)
    os.close(ours)
    return code


@pytest.mark.deviation("-r")
def test_reset_deletes_its_own_data_only_and_asks(process, tmp_path):
    gid = process.submit(process.saga(wait_result=True))
    assert process.server.stop() == 0
    with sqlite3.connect(tmp_path / "process.db") as db:
        db.execute("CREATE TABLE somebody_elses (x)")
        db.execute("INSERT INTO somebody_elses VALUES (1)")
    command = ("serve", "-r", "--store", f"sqlite:///{tmp_path}/process.db")
    assert answered_at_a_terminal(b"n\n", *command) == 1
    process.server.start()
    assert process.server.status(gid) == "succeed"
    process.server.stop()
    port = free_port()
    with subprocess.Popen(
        [*COMMAND, *command, "--yes", "--http-port", str(port), "--grpc-port", "0"], stderr=subprocess.DEVNULL
    ) as again:
        assert wait_until(lambda: answers(Client("127.0.0.1", port)))
        assert Client("127.0.0.1", port).status(gid) == ""
        again.terminate()
    with sqlite3.connect(tmp_path / "process.db") as db:
        assert db.execute("SELECT x FROM somebody_elses").fetchall() == [(1,)]


@pytest.mark.deviation("boltdb")
def test_boltdb_means_the_embedded_store():
    loaded = load(environ={"STORE_DRIVER": "boltdb"})
    assert loaded.config.store.location().reveal().startswith("sqlite://")
    assert [notice for notice in loaded.notices if "boltdb" in notice]
