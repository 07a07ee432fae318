"""The defects of dtmcli 1.7.7, one test each: that the old client has it, and that ours is right.

The server is a scripted one where the defect is about an answer that a real one gives only in trouble.
"""

import contextlib
import importlib
import inspect
import json
import secrets
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata, resources
from types import SimpleNamespace

import psycopg
import pymysql
import pytest
import requests

import reefknot
from reefknot import Barrier, Client, Ongoing, OutcomeUnknown
from reefknot.barrier.statements import Database, table_sql
from reefknot.testing.participant import FAILURE, Participant, Say
from sdk.barrier_business import run_script
from sdk.barrier_connections import parts

pytestmark = pytest.mark.interop

MODULES = ("barrier", "dtmimp", "msg", "saga", "tcc", "transbase", "utils")


def client(package):
    return SimpleNamespace(**{name: importlib.import_module(f"{package}.{name}") for name in MODULES})


theirs, ours = client("dtmcli"), client("reefknot.compat.dtmcli")


@pytest.fixture
def peer():
    """A server and a bank in one: says yes to everything unless told otherwise."""
    with Participant() as peer:
        peer.dtm = peer.url("/api/dtmsvr")
        yield peer


@pytest.fixture(scope="module")
def mysql_url(mariadb):
    url = mariadb.create_database(f"defects_{secrets.token_hex(4)}")
    run_script(Database.MYSQL, url, table_sql(Database.MYSQL) + "CREATE TABLE card (number text)")
    return url


def nothing(_):
    """Business that does nothing."""


def said(peer, path):
    """What was sent to a path, as JSON."""
    return [json.loads(call.body) for call in peer.calls if call.path == path]


def try_one(tcc, peer):
    return tcc.call_branch({}, peer.url("/try"), peer.url("/confirm"), peer.url("/cancel"))


def test_defect_01_a_submit_without_a_clear_answer_is_never_aborted(peer):
    peer.always("/api/dtmsvr/submit", Say(500, b"the answer got lost"))
    assert theirs.tcc.tcc_global_transaction(peer.dtm, "g", nothing) == ""
    assert peer.called()[-1] == "/api/dtmsvr/abort"

    with pytest.raises(OutcomeUnknown) as unknown:
        ours.tcc.tcc_global_transaction(peer.dtm, "g2", nothing)
    assert unknown.value.gid == "g2"
    assert peer.called()[-1] == "/api/dtmsvr/submit"


def test_defect_02_what_ends_a_tcc_reaches_the_caller(peer, capsys):
    def interrupted(tcc):
        raise KeyboardInterrupt

    peer.always("/try", FAILURE)
    assert theirs.tcc.tcc_global_transaction(peer.dtm, "g", lambda tcc: try_one(tcc, peer)) == ""
    assert theirs.tcc.tcc_global_transaction(peer.dtm, "g", interrupted) == ""
    assert "KeyboardInterrupt" in capsys.readouterr().err
    assert "rollback_reason" not in said(peer, "/api/dtmsvr/abort")[0]

    with pytest.raises(ours.utils.DTMFailureError, match="refused"):
        ours.tcc.tcc_global_transaction(peer.dtm, "g2", lambda tcc: try_one(tcc, peer))
    with pytest.raises(KeyboardInterrupt):
        ours.tcc.tcc_global_transaction(peer.dtm, "g3", interrupted)
    aborted = {body["gid"]: body["rollback_reason"] for body in said(peer, "/api/dtmsvr/abort")[2:]}
    assert aborted == {"g2": "reason:refused.", "g3": "KeyboardInterrupt"}
    assert capsys.readouterr() == ("", "")


def test_defect_03_a_gid_is_a_value_and_no_sql(mysql_url):
    with contextlib.closing(pymysql.connect(**parts(mysql_url))) as connection, connection.cursor() as cursor:
        for package in (theirs, ours):
            gid = f"{secrets.token_hex(4)}','99','action','01','forged') -- "
            package.barrier.BranchBarrier("saga", gid, "01", "action").call(cursor, nothing)
            cursor.execute("SELECT gid, reason FROM dtm_barrier.barrier WHERE gid LIKE %s", (f"{gid[:8]}%",))
            assert cursor.fetchall() == (((gid[:8], "forged"),) if package is theirs else ((gid, "action"),))


def test_defect_04_a_saga_can_be_concurrent_and_ordered(peer):
    def build(package):
        saga = package.saga.Saga(peer.dtm, "g")
        saga.add({}, peer.url("/a"), peer.url("/a/undo")).add({}, peer.url("/b"), peer.url("/b/undo"))
        return saga.set_concurrent()

    with pytest.raises(AttributeError):
        build(theirs).submit()
    with pytest.raises(AttributeError):
        build(theirs).add_branch_order(1, [0])

    build(ours).add_branch_order(1, [0]).submit()
    [body] = said(peer, "/api/dtmsvr/submit")
    assert (body["concurrent"], json.loads(body["custom_data"])) == (True, {"orders": {"1": [0]}, "concurrent": True})


def test_defect_05_every_answer_has_its_meaning(peer):
    answers = {425: Ongoing, 201: None, 204: None}
    for status, error in answers.items():
        peer.always("/", Say(status, b""))
        response = requests.get(peer.url("/"), timeout=30)
        with pytest.raises(Exception, match="bad result"):
            theirs.utils.check_result(response)
        with pytest.raises(error) if error else contextlib.nullcontext():
            ours.utils.check_result(response)


def test_defect_06_a_200_that_says_failure_drops_the_message(peer):
    peer.always("/asked", Say(200, b'{"dtm_result":"FAILURE"}'))

    def lost(barrier):
        raise RuntimeError("the connection broke in the commit")

    for package in (theirs, ours):
        with pytest.raises(RuntimeError):
            package.msg.Msg(peer.dtm, "g").add({}, peer.url("/in")).do_and_submit(peer.url("/asked"), lost)
        assert said(peer, "/api/dtmsvr/submit") == []
        assert len(said(peer, "/api/dtmsvr/abort")) == (0 if package is theirs else 1)


class Counting(BaseHTTPRequestHandler):
    """Says yes, and counts connections."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_defect_07_connections_are_used_again():
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api/dtmsvr"
        for package, expected in ((theirs, 5), (ours, 1)):
            server.connections = 0
            for _ in range(5):
                package.saga.Saga(url, "g").submit()
            assert server.connections == expected
        ours.msg.client_of(url).close()
        server.shutdown()


def test_defect_07_a_try_has_a_time_limit(peer):
    peer.always("/try", Say(seconds=2.5))
    began = time.monotonic()
    assert theirs.tcc.tcc_global_transaction(peer.dtm, "g", lambda tcc: try_one(tcc, peer)) == "g"
    assert time.monotonic() - began > 2.4
    assert "timeout" not in inspect.getsource(theirs.tcc)

    with pytest.raises(OutcomeUnknown, match="no clear answer"):
        ours.tcc.tcc_global_transaction(peer.dtm, "g2", lambda tcc: try_one(tcc, peer), request_timeout=1)
    assert peer.called()[-1] == "/api/dtmsvr/abort"


def test_defect_08_nothing_is_printed(mysql_url, capsys):
    statement = "INSERT INTO card VALUES ('4111')"
    with contextlib.closing(pymysql.connect(**parts(mysql_url))) as connection, connection.cursor() as cursor:
        for package in (theirs, ours):
            assert package.utils.sqlexec(cursor, statement) == 1
            package.barrier.BranchBarrier("saga", secrets.token_hex(4), "01", "action").call(cursor, nothing)
            printed = capsys.readouterr()
            assert (statement in printed.out) is (package is theirs)
            assert package is theirs or printed == ("", "")


def test_defect_09_any_database_and_the_connection_is_yours(tmp_path, postgres):
    url = postgres.create_database(f"defects_{secrets.token_hex(4)}")
    run_script(Database.POSTGRES, url, table_sql(Database.POSTGRES))
    run_script(Database.SQLITE, str(tmp_path / "bank.db"), table_sql(Database.SQLITE))
    for connect in (lambda: sqlite3.connect(tmp_path / "bank.db"), lambda: psycopg.connect(url)):
        with contextlib.closing(connect()) as connection, contextlib.closing(connection.cursor()) as cursor:
            with pytest.raises((sqlite3.OperationalError, psycopg.errors.SyntaxError)):
                theirs.barrier.BranchBarrier("saga", "g", "01", "action").call(cursor, nothing)
            done = []
            for _ in range(2):
                ours.barrier.BranchBarrier("saga", "g", "01", "action").call(cursor, done.append)
            assert done == [cursor]
            # The SDK's own spelling leaves the commit to the caller: what he rolls back never was.
            assert Barrier("saga", "g", "02", "action").passes(connection)
            connection.rollback()
            assert Barrier("saga", "g", "02", "action").passes(connection)
            connection.rollback()


def test_defect_10_what_the_old_client_does_not_have():
    words = ("async ", "grpc", "xa", "workflow", "topic", "delay")
    assert not any(word in inspect.getsource(vars(theirs)[name]).lower() for name in MODULES for word in words)

    assert {"AsyncClient", "AsyncBarrier", "Client", "workflow", "Workflow"} <= set(reefknot.__all__)
    with Client("http://127.0.0.1:1") as client:
        assert client.xa("g").gid == "g"
        assert client.msg("g", delay=1800).publish("order.cancelled", {}).gid == "g"
    with Client("grpc://127.0.0.1:1") as client:
        assert client.saga("g").gid == "g"
    assert (resources.files("reefknot") / "py.typed").is_file()


def test_defect_11_the_servers_time_limit_counts(peer):
    for package in (theirs, ours):
        package.saga.Saga(peer.dtm, "g").submit()
    their_body, our_body = said(peer, "/api/dtmsvr/submit")
    assert their_body["request_timeout"] == 8
    assert our_body.get("request_timeout", 0) == 0


def test_defect_12_a_tcc_has_options(peer):
    assert list(inspect.signature(theirs.tcc.tcc_global_transaction).parameters) == ["dtmUrl", "gid", "tcc_cb"]
    options = {"timeout_to_fail": 20, "request_timeout": 5, "retry_interval": 15, "wait_result": True}
    headers = {"x-tenant": "north"}
    ours.tcc.tcc_global_transaction(peer.dtm, "g", lambda tcc: try_one(tcc, peer), branch_headers=headers, **options)
    for path in ("/api/dtmsvr/prepare", "/api/dtmsvr/submit"):
        [body] = said(peer, path)
        assert {name: body[name] for name in (*options, "branch_headers")} == options | {"branch_headers": headers}
    assert next(call.headers["x-tenant"] for call in peer.calls if call.path == "/try") == "north"


def test_defect_12_no_dependency_is_there_by_accident():
    needed = [line for line in metadata.requires("reefknot") or () if "extra ==" not in line]
    assert sorted(line.partition(">")[0] for line in needed) == ["msgspec", "urllib3"]
