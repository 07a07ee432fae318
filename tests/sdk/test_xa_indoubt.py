"""Prepared branches after every kind of death, and the sweeper that ends them by the server's decision."""

import json
import os
import threading
import time

import pytest

from reefknot import Client, Workflow, Workflows, workflow
from reefknot.barrier.statements import Database
from reefknot.cli import main
from reefknot.testing.server import LocalServer
from reefknot.xa.indoubt import Verdict, prepared, sweep
from sdk.test_xa import MOVED, SAME, new_gid, opened, preparing, target  # noqa: F401 - preparing is a fixture
from sdk.xa_bank import Psycopg, PyMySql

#: Prepared, session closed, committed by another session at once: so often. If nobody waited for the end of
#: the session, MariaDB 10.11 would know nothing of the xid in one of ten tries. XA_ROUNDS asks for more.
ROUNDS = int(os.environ.get("XA_ROUNDS", "30"))
BOTH = pytest.mark.parametrize("library", [PyMySql, Psycopg], ids=lambda library: library.__name__)


#: A prepared transaction that no server of ours started, and its end.
FOREIGN = {
    PyMySql: (
        'XA START "somebody else\'s"',
        "INSERT INTO account VALUES ('else', 0)",
        'XA END "somebody else\'s"',
        'XA PREPARE "somebody else\'s"',
    ),
    Psycopg: ("BEGIN", "INSERT INTO account VALUES ('else', 0)", "PREPARE TRANSACTION 'somebody else''s'"),
}
FORGET = {PyMySql: 'XA ROLLBACK "somebody else\'s"', Psycopg: "ROLLBACK PREPARED 'somebody else''s'"}


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


def connector(banks):
    return lambda: banks.library.connect(banks.url)


@BOTH
def test_a_commit_right_after_the_preparing_session_finds_its_xid(library, request, server):
    for banks in opened(library, request, server):
        failed = []

        def rounds(path, banks=banks, failed=failed):
            with Client(banks.server_url) as client:
                for _ in range(ROUNDS):
                    gid = new_gid()
                    with client.xa(gid) as xa:
                        xa.call(banks.at(path), {"amount": 1})
                        query = {"gid": gid, "trans_type": "xa", "branch_id": "01"}
                        status, text = banks.serve(target(path, query, "commit"), b"")
                        if status != 200:
                            failed.append(text)

        threads = [threading.Thread(target=rounds, args=(path,)) for path in ("/out", "/in")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.settle()
        assert failed == []
        assert banks.balances() == {"out": SAME["out"] - ROUNDS, "in": SAME["in"] + ROUNDS}


@BOTH
def test_a_database_that_dies_between_prepare_and_commit_loses_nothing(library, request, server, client):
    """Killed and started again: what was prepared is still there, and the server commits it."""
    for banks in opened(library, request, server):
        gid = new_gid()
        with client.xa(gid) as xa:
            xa.call(banks.at("/out"), {"amount": 30})
            xa.call(banks.at("/in"), {"amount": 30})
            database = request.getfixturevalue("mariadb" if library is PyMySql else "preparing")
            database.restart(kill=True)
        server.settle()
        server.cron()
        server.cron()
        assert server.status(gid) == "succeed"
        assert banks.balances() == MOVED


def test_a_session_that_is_killed_leaves_what_it_prepared(request, server, client):
    """The preparing session hangs; it is killed by number; then the commit finds the xid."""
    for banks in opened(PyMySql, request, server):
        gid = new_gid()
        connection = banks.library.connect(banks.url)
        query = {"gid": gid, "trans_type": "xa", "branch_id": "01"}
        with connection.cursor() as cursor:
            cursor.execute("SELECT connection_id()")
            (number,) = cursor.fetchone()
            for statement in (
                "XA START %s",
                "UPDATE account SET balance = balance - 30 WHERE name = 'out'",
                f"INSERT INTO dtm_barrier.barrier VALUES (0, 'xa', '{gid}', '01', 'action', '01', '', NULL, NULL)",
                "UPDATE dtm_barrier.barrier SET reason = 'action' WHERE id = last_insert_id()",
                "XA END %s",
                "XA PREPARE %s",
            ):
                cursor.execute(statement.replace("%s", f"'{gid}-01'"))
        status, text = banks.serve(target("/out", query, "commit"), b"")
        assert (status, b"has not closed yet" in text) == (425, True)
        with banks.sql() as run:
            run(f"KILL {number}")
        until = time.monotonic() + 10
        while banks.serve(target("/out", query, "commit"), b"")[0] != 200 and time.monotonic() < until:
            time.sleep(0.05)
        assert banks.balances()["out"] == SAME["out"] - 30


def leave_prepared(client, banks, server, path):
    """An xa that is submitted and whose branch never hears of it."""
    gid = new_gid()
    banks.not_yet[path, "commit"] = banks.not_yet[path, "rollback"] = 1_000
    with client.xa(gid) as xa:
        xa.call(banks.at(path), {"amount": 30})
    server.settle()
    return gid


@BOTH
def test_the_sweeper_obeys_the_servers_decision_and_nothing_else(library, request, server, client):
    for banks in opened(library, request, server):
        stopped = leave_prepared(client, banks, server, "/out")
        going = leave_prepared(client, banks, server, "/in")
        client.force_stop(stopped)
        with banks.sql() as run:
            for statement in FOREIGN[library]:
                run(statement)

        found = {one.gid or one.xid: one for one in prepared(connector(banks), client)}
        assert {name: one.verdict for name, one in found.items()} == {
            stopped: Verdict.ROLL_BACK,
            going: Verdict.WAIT,
            "somebody else's": Verdict.LEAVE,
        }
        assert {one.done for one in sweep(connector(banks), client, dry_run=True)} == {False}
        assert len(banks.prepared()) == 3

        swept = {one.gid or one.xid: (one.done, one.problem) for one in sweep(connector(banks), client)}
        assert swept == {stopped: (True, ""), going: (False, ""), "somebody else's": (False, "")}
        assert banks.balances() == SAME
        banks.not_yet.clear()
        server.cron()
        assert banks.balances() == {"out": SAME["out"], "in": SAME["in"] + 30}
        with banks.sql() as run:
            run(FORGET[library])


@BOTH
def test_the_sweeper_commits_what_succeeded(library, request, server, client):
    """A branch whose database was restored from a backup that still has it prepared."""
    for banks in opened(library, request, server):
        gid = leave_prepared(client, banks, server, "/out")
        banks.not_yet.clear()
        # The participant's URL is served by another database for a while: it has no such branch.
        banks.commits_blindly = True
        server.cron()
        assert server.status(gid) == "succeed"
        (swept,) = sweep(connector(banks), client)
        assert (swept.verdict, swept.done, swept.status) == (Verdict.COMMIT, True, "succeed")
        assert banks.balances()["out"] == SAME["out"] - 30


@BOTH
def test_the_command_line_lists_and_sweeps(library, request, server, client, capsys):
    for banks in opened(library, request, server):
        gid = leave_prepared(client, banks, server, "/out")
        client.force_stop(gid)
        options = [banks.url, "--server", server.url, "--json"]

        assert main(["xa", "list", *options]) == 0
        (listed,) = json.loads(capsys.readouterr().out)
        assert (listed["gid"], listed["status"], listed["verdict"]) == (gid, "failed", "roll back")
        assert main(["xa", "sweep", "--dry-run", *options]) == 0
        assert len(banks.prepared()) == 1

        capsys.readouterr()
        assert main(["xa", "sweep", *options]) == 0
        (swept,) = json.loads(capsys.readouterr().out)
        assert (swept["gid"], swept["done"]) == (gid, True)
        assert banks.prepared() == []
        assert banks.balances() == SAME


def prepare(banks, xid):
    """Prepare something under this name, as another program does it."""
    begin, *end = {
        Database.MYSQL: ("XA START %s", "XA END %s", "XA PREPARE %s"),
        Database.POSTGRES: ("BEGIN", "PREPARE TRANSACTION %s"),
    }[banks.library.database]
    with banks.sql() as run:
        for statement in (begin, f"INSERT INTO account VALUES ('{xid[-10:]}', 0)", *end):
            run(statement.replace("%s", f"'{xid}'"))


def forget(banks, xid):
    with banks.sql() as run:
        run(("XA ROLLBACK" if banks.library.database is Database.MYSQL else "ROLLBACK PREPARED") + f" '{xid}'")


@BOTH
def test_the_sweeper_leaves_what_only_looks_like_a_branch(library, request, server, client, capsys):
    """Names of other programs that begin with the gid of a transaction that has ended."""
    for banks in opened(library, request, server):
        saga, xa_gid, unknown = new_gid(), new_gid(), new_gid()
        client.saga(saga).submit()
        with client.xa(xa_gid) as xa:
            xa.call(banks.at("/out"), {"amount": 30})
        server.settle()
        assert [server.status(gid) for gid in (saga, xa_gid)] == ["succeed", "succeed"]
        before = banks.balances()
        names = [f"{saga}-2024", f"{xa_gid}-02", f"{unknown}-01"]
        for name in names:
            prepare(banks, name)
        expected = {
            names[0]: "the transaction of this gid is a saga, which prepares nothing: another program's",
            names[1]: "the xa of this gid has no branch 02: another program's, or never registered",
            names[2]: "this server does not know the gid: another server, purged, or never registered",
        }
        for found in (prepared(connector(banks), client), sweep(connector(banks), client)):
            assert {one.xid: (one.verdict, one.done, one.problem) for one in found} == {
                name: (Verdict.LEAVE, False, problem) for name, problem in expected.items()
            }
        # Without a server there is nothing to say.
        assert {one.problem for one in prepared(connector(banks))} == {""}
        options = [banks.url, "--server", server.url]
        assert main(["xa", "sweep", *options]) == 0
        assert "this server does not know the gid" in capsys.readouterr().out
        for name in names:
            forget(banks, name)
        assert banks.balances() == before

        for command in ("list", "sweep"):
            assert main(["xa", command, *options]) == 0
            assert capsys.readouterr().out == "nothing is prepared\n"
        assert main(["xa", "list", *options, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []


@BOTH
def test_the_sweeper_ends_what_a_workflow_has_prepared(library, request, server, client):
    """Its barrier's rows are the workflow's, so that a late copy of the step finds them."""

    @workflow("interrupted")
    def interrupted(w: Workflow) -> None:
        w.xa(connect, lambda connection: banks.library.move(connection, -30, "out"))
        raise ConnectionError

    for banks in opened(library, request, server):
        connect, gid = connector(banks), new_gid()
        with pytest.raises(ConnectionError):
            Workflows(client, [interrupted], callback=banks.at("/nowhere")).execution(gid).run(interrupted)
        client.force_stop(gid)
        (swept,) = sweep(connect, client)
        assert (swept.gid, swept.mode, swept.verdict, swept.done) == (gid, "workflow", Verdict.ROLL_BACK, True)
        assert banks.balances() == SAME
        assert banks.prepared() == []
        with banks.sql() as run:
            rows = run(f"SELECT trans_type, op, reason FROM dtm_barrier.barrier WHERE gid = '{gid}'")
        assert [tuple(row) for row in rows] == [("workflow", "action", "rollback")]


def test_a_database_without_xa_is_refused(capsys):
    assert main(["xa", "list", "sqlite:///bank.db"]) == 1
    assert "begins with 'sqlite'; use one of postgres" in capsys.readouterr().err
