"""Old programs on both clients: dtmcli itself, and what stands in its place after one changed import."""

import contextlib
import importlib
import json
import logging
import secrets
import sqlite3
from types import SimpleNamespace

import pymysql
import pytest
import requests

from reefknot import BarrierMissing, Invalid
from reefknot.barrier.statements import Database, table_sql
from reefknot.compat.dtmcli import barrier, servers, tcc, utils
from reefknot.testing.participant import ERROR, FAILURE, OK, Participant
from reefknot.testing.server import LocalServer
from sdk.barrier_business import run_script
from sdk.barrier_connections import parts

pytestmark = pytest.mark.interop


@pytest.fixture(params=["dtmcli", "reefknot.compat.dtmcli"])
def old(request):
    """The client's modules, by their names."""
    names = ("barrier", "dtmimp", "msg", "saga", "tcc", "transbase", "utils")
    return SimpleNamespace(**{name: importlib.import_module(f"{request.param}.{name}") for name in names})


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.fixture
def bank():
    with Participant() as bank:
        yield bank


@pytest.fixture(scope="module")
def url(mariadb):
    url = mariadb.create_database(f"compat_{secrets.token_hex(4)}")
    run_script(Database.MYSQL, url, table_sql(Database.MYSQL))
    run_script(Database.MYSQL, url, "CREATE TABLE account (balance int NOT NULL); INSERT INTO account VALUES (1000)")
    return url


def balance(url):
    with contextlib.closing(pymysql.connect(**parts(url))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT balance FROM account")
        return cursor.fetchone()[0]


def pay(cursor):
    cursor.execute("UPDATE account SET balance = balance - 30")


def test_a_saga(old, server, bank):
    gid = old.utils.gen_gid(server.url)
    saga = old.saga.Saga(server.url, gid)
    saga.add({"amount": 30}, bank.url("/out"), bank.url("/out/undo")).add({}, bank.url("/in"), bank.url("/in/undo"))
    saga.trans_base.branch_headers = {"x-tenant": "north"}
    saga.submit()
    assert server.wait_for(gid, "succeed") == "succeed"
    assert [(call.path, call.body, call.headers["x-tenant"]) for call in bank.calls] == [
        ("/out", b'{"amount": 30}' if old.saga.__name__.startswith("dtmcli") else b'{"amount":30}', "north"),
        ("/in", b"{}", "north"),
    ]


def test_a_saga_that_waits_and_is_refused(old, server, bank):
    bank.always("/in", FAILURE)
    saga = old.saga.Saga(server.url, old.utils.gen_gid(server.url))
    saga.add({}, bank.url("/out"), bank.url("/out/undo")).add({}, bank.url("/in"), bank.url("/in/undo"))
    saga.trans_base.wait_result = True
    with pytest.raises(old.utils.DTMFailureError):
        saga.submit()
    assert bank.called() == ["/out", "/in", "/in/undo", "/out/undo"]


def test_a_tcc_and_a_nested_one(old, server, bank):
    gid = old.utils.gen_gid(server.url)

    def both(one):
        answer = one.call_branch({"amount": 30}, bank.url("/try"), bank.url("/confirm"), bank.url("/cancel"))
        assert (answer.status_code, answer.json()) == (200, {"dtm_result": "SUCCESS"})
        nested = old.tcc.tcc_from_req(server.url, gid, bank.calls[-1].branch_id)
        nested.call_branch({}, bank.url("/try"), bank.url("/confirm"), bank.url("/cancel"))

    assert old.tcc.tcc_global_transaction(server.url, gid, both) == gid
    assert server.wait_for(gid, "succeed") == "succeed"
    called = [f"{call.path} {call.branch_id}" for call in bank.calls]
    assert called[:2] == ["/try 01", "/try 0101"]
    # The server confirms all at once.
    assert sorted(called[2:]) == ["/confirm 01", "/confirm 0101"]


def test_a_message(old, server, bank, url):
    gid = old.utils.gen_gid(server.url)
    before = balance(url)
    msg = old.msg.Msg(server.url, gid).add({"amount": 30}, bank.url("/in")).set_wait_result()
    with old.barrier.AutoCursor(pymysql.connect(**parts(url)).cursor()) as cursor:
        msg.do_and_submit_db(bank.url("/asked"), cursor, pay)
    assert (balance(url), bank.called()) == (before - 30, ["/in"])
    # What the check-back of this message would be told.
    with old.barrier.AutoCursor(pymysql.connect(**parts(url)).cursor()) as cursor:
        old.barrier.BranchBarrier("msg", gid, "00", "msg").query_prepared(cursor)


def test_a_message_in_two_phases(old, server, bank):
    gid = old.utils.gen_gid(server.url)
    msg = old.msg.Msg(server.url, gid).add({}, bank.url("/in"))
    msg.prepare(bank.url("/asked"))
    assert server.status(gid) == "prepared"
    msg.submit()
    assert server.wait_for(gid, "succeed") == "succeed"


def test_a_message_whose_business_refuses(old, server, bank, url):
    before, gid = balance(url), old.utils.gen_gid(server.url)

    def refuse(cursor):
        pay(cursor)
        raise old.utils.DTMFailureError("not enough money")

    bank.always("/asked", FAILURE)
    msg = old.msg.Msg(server.url, gid).add({}, bank.url("/in"))
    with (
        old.barrier.AutoCursor(pymysql.connect(**parts(url)).cursor()) as cursor,
        pytest.raises(old.utils.DTMFailureError, match="not enough money"),
    ):
        msg.do_and_submit_db(bank.url("/asked"), cursor, refuse)
    assert balance(url) == before
    assert "/in" not in bank.called()
    assert server.wait_for(gid, "failed") == "failed"
    # The same gid again: its local transaction cannot happen any more.
    with old.barrier.AutoCursor(pymysql.connect(**parts(url)).cursor()) as cursor:
        with pytest.raises(old.utils.DTMFailureError):
            old.barrier.BranchBarrier("msg", gid, "00", "msg").query_prepared(cursor)
        with pytest.raises(Exception, match=r"msg duplicate|ran before"):
            old.barrier.BranchBarrier("msg", gid, "00", "msg").call(cursor, pay)
    assert balance(url) == before


def test_a_barrier_joins_what_its_connection_has_begun(old, url):
    gid, before = secrets.token_hex(8), balance(url)
    with old.barrier.AutoCursor(pymysql.connect(**parts(url)).cursor()) as cursor:
        cursor.execute("SELECT balance FROM account")
        for _ in range(2):
            old.barrier.BranchBarrier("saga", gid, "01", "action").call(cursor, pay)
        two = old.barrier.BranchBarrier("saga", gid, "02", "action")
        two.call(cursor, pay)
        two.call(cursor, pay)
        assert two.barrier_id == 2
    assert balance(url) == before - 90


def test_a_request_of_its_own(old, server):
    gid = secrets.token_hex(8)
    body = {"gid": gid, "trans_type": "tcc", "custom_data": None}
    old.dtmimp.trans_call_dtm(server.url, body, "prepare", 8)
    assert server.status(gid) == "prepared"
    old.dtmimp.trans_call_dtm(server.url, body, "abort", 8)
    with pytest.raises(old.utils.DTMFailureError):
        old.dtmimp.trans_call_dtm(server.url, body, "submit", None)


def test_branch_ids(old):
    ids = old.utils.IdGenerator("01")
    assert [ids.new_branch_id() for _ in range(99)][::49] == ["0101", "0150", "0199"]
    with pytest.raises(Exception, match="99"):
        ids.new_branch_id()


def test_answers(old, bank):
    bank.script("/", [OK, FAILURE, ERROR])
    old.utils.check_result(requests.get(bank.url("/"), timeout=30))
    with pytest.raises(old.utils.DTMFailureError):
        old.utils.check_result(requests.get(bank.url("/"), timeout=30))
    with pytest.raises(Exception, match=r".") as unclear:
        old.utils.check_result(requests.get(bank.url("/"), timeout=30))
    assert not isinstance(unclear.value, old.utils.DTMFailureError)


@pytest.mark.conformance("TestGeneralDB")
def test_a_statement(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "bank.db")) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE account (balance int)")
        assert utils.sqlexec(cursor, "INSERT INTO account VALUES (1), (2)") == 2
        assert utils.sqlexec(cursor, "") == 0
        with pytest.raises(sqlite3.OperationalError, match="no such table: ledger"):
            utils.sqlexec(cursor, "UPDATE ledger SET balance = 1")
        with pytest.raises(BarrierMissing):
            barrier.BranchBarrier("saga", "g", "01", "action").call(cursor, pay)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        utils.sqlexec(cursor, "SELECT 1")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        barrier.BranchBarrier("saga", "g", "01", "action").call(cursor, pay)


def test_wrong_arguments_are_named():
    with pytest.raises(Invalid, match="gid: is empty"):
        tcc.tcc_from_req("http://127.0.0.1:1", "", "01")
    with pytest.raises(Invalid, match="operation: is 'sumbit'"):
        importlib.import_module("reefknot.compat.dtmcli.dtmimp").trans_call_dtm("http://127.0.0.1:1", {}, "sumbit", 1)
    one = importlib.import_module("reefknot.compat.dtmcli.saga").Saga("http://127.0.0.1:1", "g")
    with pytest.raises(Invalid, match="there is no step 1"):
        one.add({}, "http://a", "http://b").set_concurrent().add_branch_order(1, [0]).submit()


def test_each_new_spelling_is_logged_once(caplog):
    servers.note_spelling.cache_clear()
    with caplog.at_level(logging.INFO, "reefknot.compat"):
        for _ in range(3):
            barrier.BranchBarrier("saga", "g", "01", "action")
    assert [record.getMessage() for record in caplog.records] == [
        "dtmcli's barrier.BranchBarrier(trans_type, gid, branch_id, op) is now: Barrier.from_query(query)"
    ]


def test_the_modules_have_the_names_of_the_old_ones():
    for name in ("barrier", "dtmimp", "msg", "saga", "tcc", "transbase", "utils"):
        theirs = importlib.import_module(f"dtmcli.{name}")
        ours = importlib.import_module(f"reefknot.compat.dtmcli.{name}")
        public = {key for key, value in vars(theirs).items() if getattr(value, "__module__", "") == theirs.__name__}
        assert {key for key in public if not hasattr(ours, key)} <= {"insert_barrier"}
    base = importlib.import_module("dtmcli.transbase").TransBase("g", "saga")
    assert set(vars(base)) == set(
        vars(importlib.import_module("reefknot.compat.dtmcli.transbase").TransBase("g", "saga"))
    )
    assert json.dumps(vars(base))
