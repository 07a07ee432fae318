"""XA branches on real databases: every library, every end, and everything that comes too late or twice."""

import secrets

import pytest

from reefknot import Client, Failure, OutcomeUnknown, Refused, ServerUnavailable
from reefknot.barrier.statements import Database
from reefknot.testing.databases.postgres import PostgresServer
from reefknot.testing.server import LocalServer
from sdk.xa_bank import LIBRARIES, START, Asyncpg, Psycopg, PyMySql, XaBanks

MOVED = {"out": START - 30, "in": START + 30}
SAME = {"out": START, "in": START}


@pytest.fixture(scope="module")
def preparing():
    """A PostgreSQL server that can prepare transactions."""
    with PostgresServer(fsync=False, settings={"max_prepared_transactions": "50"}) as server:
        yield server


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.__name__)
def banks(request, server):
    yield from opened(request.param, request, server)


def opened(library, request, server):
    if library.database is Database.MYSQL:
        url = request.getfixturevalue("mariadb").create_database(f"xa_{secrets.token_hex(4)}")
    else:
        url = request.getfixturevalue("preparing").url
    with XaBanks(library, url, server.url.removesuffix("/api/dtmsvr")) as banks:
        yield banks
        assert banks.prepared() == []


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


def new_gid():
    return f"xa-{secrets.token_hex(6)}"


def transfer(client, banks, gid, *, refuse=False):
    with client.xa(gid) as xa:
        xa.call(banks.at("/out"), {"amount": 30})
        xa.call(banks.at("/in"), {"amount": 30, "refuse": refuse})


@pytest.mark.conformance("TestXaNormal")
def test_xa_normal(banks, server, client):
    gid = new_gid()
    transfer(client, banks, gid)
    server.settle()
    assert (server.status(gid), server.branches(gid)) == ("succeed", ["prepared", "succeed"] * 2)
    assert banks.balances() == MOVED
    assert banks.rows(gid) == [("01", "action", "action"), ("02", "action", "action")]


@pytest.mark.conformance("TestXaRollback")
def test_xa_rollback(banks, server, client):
    gid = new_gid()
    with pytest.raises(Failure, match="no money"):
        transfer(client, banks, gid, refuse=True)
    server.settle()
    assert (server.status(gid), server.branches(gid)) == ("failed", ["succeed", "prepared"])
    assert banks.balances() == SAME
    assert banks.rows(gid) == [("01", "action", "rollback")]


@pytest.mark.conformance("TestXaDuplicate")
def test_xa_duplicate(banks, server, client):
    gid = new_gid()
    with client.xa(gid) as xa:
        xa.call(banks.at("/out"), {"amount": 30})
        xa.call(banks.at("/in"), {"amount": 30})
        again = {"gid": gid, "trans_type": "xa", "branch_id": "01", "phase2_url": banks.at("/out")}
        assert banks.serve(target("/out", again, "action"), b'{"amount": 30}') == (200, b"{}")
        assert banks.serve(target("/out", again, "commit"), b"") == (200, b"{}")
        assert banks.serve(target("/out", again, "commit"), b"") == (200, b"{}")
        assert banks.serve(target("/out", again, "action"), b'{"amount": 30}') == (200, b"{}")
    server.settle()
    assert (server.status(gid), server.branches(gid)) == ("succeed", ["prepared", "succeed"] * 2)
    assert banks.balances() == MOVED


def target(path, query, op):
    return f"{path}?" + "&".join(f"{name}={value}" for name, value in {**query, "op": op}.items())


@pytest.mark.conformance("TestXaLocalError")
def test_xa_local_error(server, client):
    gid = new_gid()
    with pytest.raises(ZeroDivisionError), client.xa(gid):
        raise ZeroDivisionError("the client's own")
    server.settle()
    assert (server.status(gid), server.branches(gid)) == ("failed", [])
    assert server.cron() == []


@pytest.mark.conformance("TestXaTimeout")
def test_xa_timeout(server, client):
    gid = new_gid()
    with pytest.raises(Refused), client.xa(gid):  # noqa: PT012 - the end of the block raises
        server.cron(300)
        assert (server.status(gid), server.branches(gid)) == ("failed", [])
    server.clock.shift(-300)


@pytest.mark.parametrize("library", [PyMySql, Asyncpg], ids=lambda library: library.__name__)
@pytest.mark.conformance("TestXaNotTimeout")
def test_xa_not_timeout(library, request, server, client):
    for banks in opened(library, request, server):
        gid = new_gid()
        banks.not_yet["/out", "commit"] = 1
        with client.xa(gid) as xa:
            server.cron(look_ahead=0)
            assert server.status(gid) == "prepared"
            xa.call(banks.at("/out"), {"amount": 30})
        server.settle()
        assert server.status(gid) == "submitted"
        server.cron()
        assert (server.status(gid), server.branches(gid)) == ("succeed", ["prepared", "succeed"])
        assert banks.balances() == {"out": START - 30, "in": START}


@pytest.mark.parametrize("library", [PyMySql, Asyncpg], ids=lambda library: library.__name__)
@pytest.mark.conformance("TestXaCoverDBError")
def test_xa_cover_db_error(library, request, server, client):
    for banks in opened(library, request, server):
        gid = new_gid()
        with pytest.raises(OutcomeUnknown), client.xa(gid) as xa:  # noqa: PT012 - the second call raises
            xa.call(banks.at("/out"), {"amount": 30})
            banks.unplugged = True
            xa.call(banks.at("/in"), {"amount": 30})
        server.settle()
        assert server.status(gid) == "aborting"
        banks.unplugged = False
        server.cron(look_ahead=500)
        assert (server.status(gid), server.branches(gid)) == ("failed", ["succeed", "prepared"])
        assert banks.balances() == SAME


@pytest.mark.conformance("TestXaCoverDTMError")
def test_xa_cover_dtm_error():
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServerUnavailable), client.xa():
        pytest.fail("nothing may be done without the server")


@pytest.mark.parametrize("library", [PyMySql, Psycopg, Asyncpg], ids=lambda library: library.__name__)
@pytest.mark.conformance(
    "TestXaCoverGidError", differs="an odd gid breaks no SQL: it stands there as data, and the transaction succeeds"
)
@pytest.mark.parametrize("odd", ["'--", "%s", "a'b\"c\\d", "größe", "x" * 90])
def test_xa_cover_gid_error(library, odd, request, server, client):
    for banks in opened(library, request, server):
        gid = f"{new_gid()}{odd}"
        transfer(client, banks, gid)
        server.settle()
        assert server.status(gid) == "succeed"
        assert banks.balances() == MOVED


@pytest.mark.parametrize("library", [PyMySql, Asyncpg], ids=lambda library: library.__name__)
def test_a_gid_that_no_xid_can_hold_is_refused(library, request, server, client):
    for banks in opened(library, request, server):
        gid = new_gid().ljust(128, "g")
        with pytest.raises(OutcomeUnknown, match="XA identifier of 131 bytes"):
            transfer(client, banks, gid)
        server.settle()
        assert server.status(gid) == "failed"
        assert banks.balances() == SAME


def test_an_action_that_comes_after_the_rollback_does_nothing(banks, server, client):
    gid = new_gid()
    late = {"gid": gid, "trans_type": "xa", "branch_id": "01", "phase2_url": banks.at("/out")}
    assert banks.serve(target("/out", late, "rollback"), b"") == (200, b"{}")
    assert banks.serve(target("/out", late, "rollback"), b"") == (200, b"{}")
    status, text = banks.serve(target("/out", late, "action"), b'{"amount": 30}')
    assert (status, b"rolled back before" in text) == (409, True)
    assert banks.balances() == SAME
    assert banks.rows(gid) == [("01", "action", "rollback")]


def test_a_commit_without_evidence_is_never_a_success(banks):
    gid = new_gid()
    lost = {"gid": gid, "trans_type": "xa", "branch_id": "01", "phase2_url": banks.at("/out")}
    status, text = banks.serve(target("/out", lost, "commit"), b"")
    assert (status, b"is not known in this database" in text) == (500, True)
    banks.serve(target("/out", lost, "rollback"), b"")
    status, text = banks.serve(target("/out", lost, "commit"), b"")
    assert (status, b"was rolled back in this database" in text) == (500, True)


def test_a_branch_that_cannot_be_registered_prepares_nothing(banks, server):
    unknown = {"gid": new_gid(), "trans_type": "xa", "branch_id": "01", "phase2_url": banks.at("/out")}
    status, _ = banks.serve(target("/out", unknown, "action"), b'{"amount": 30}')
    assert status == 500
    assert banks.prepared() == []
    assert banks.balances() == SAME


@pytest.mark.parametrize("library", [PyMySql, Psycopg], ids=lambda library: library.__name__)
def test_work_that_ends_the_transaction_is_found_out(library, request, server, client):
    for banks in opened(library, request, server):
        gid = new_gid()
        with pytest.raises(OutcomeUnknown), client.xa(gid) as xa:
            xa.call(banks.at("/out"), {"amount": 0, "commits": True})
        server.settle()
        assert server.status(gid) == "failed"


def test_postgres_that_cannot_prepare_says_which_setting(postgres, server, client):
    with XaBanks(Psycopg, postgres.url, server.url.removesuffix("/api/dtmsvr")) as banks:
        with pytest.raises(OutcomeUnknown, match="max_prepared_transactions: is 0"):
            transfer(client, banks, new_gid())
        server.settle()
        assert banks.balances() == SAME
