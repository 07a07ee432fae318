"""A bank in Go that uses DTM's released Go client: dtmcli, dtmgrpc and workflow of github.com/dtm-labs/dtm v1.19.0.

Its global transactions go over HTTP, gRPC and JSON-RPC, its branches work on MariaDB, PostgreSQL and Redis.
"""

from __future__ import annotations

import contextlib
import http.client
import secrets
import signal
from typing import NamedTuple

import pytest

from interop.bank import AMOUNT, MOVED, REFUSED, START, UNMOVED, Pair
from interop.peers import Peer
from reefknot.testing.server import ServerProcess, free_port

pytestmark = pytest.mark.interop

#: What the server's polling and the transactions' timeouts add up to, with time for a loaded machine.
RESUMED_SECONDS = 30.0


@pytest.fixture(scope="module")
def store(request):
    """The URL of an empty store of the kind that is asked for."""
    kind = request.param
    if kind == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path_factory').mktemp('go')}/store.db"
    if kind == "mariadb":
        return request.getfixturevalue("mariadb").create_database(f"go_{secrets.token_hex(6)}")
    if kind == "postgres":
        return f"{request.getfixturevalue('xa_postgres').url}?schema=go_{secrets.token_hex(6)}"
    return f"{request.getfixturevalue('redis').url}?prefix=go{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    settings = {
        "REEFKNOT_RETRY_INTERVAL": "1",
        "REEFKNOT_TRANS_CRON_INTERVAL": "1",
        "REEFKNOT_CONFIG_UPDATE_INTERVAL": "1",
    }
    log = tmp_path_factory.mktemp("go") / "log"
    with ServerProcess(store, environment=settings, log=log, grpc=True) as server:
        yield server
        assert server.alive
        assert "request failed" not in server.log_text()


@pytest.fixture(scope="module")
def start(go_bank, server, banks, tmp_path_factory):
    """Makes a program that uses the server and the banks."""

    def made(protocol):
        command = [go_bank, "-server", server.url, "-grpc-server", server.grpc_address]
        command += [f"-grpc-workflows={str(protocol == 'grpc').lower()}"]
        # The same ports when it is started again.
        command += ["-http-port", str(free_port()), "-grpc-port", str(free_port())]
        for kind, bank in banks.items():
            command += [f"-{kind}", bank.url]
        return Peer(command, tmp_path_factory.mktemp("go") / "log")

    yield made
    assert [bank.unfinished() for bank in banks.values()] == [[]] * len(banks)


@pytest.fixture(scope="module", params=["http", "grpc"])
def protocol(request):
    return request.param


@pytest.fixture(scope="module")
def peer(start, protocol):
    with start(protocol) as peer:
        yield peer


class Case:
    """Runs one case of the program and looks at what became of it."""

    def __init__(self, peer, server, banks, protocol):
        self.server, self.peer = server, peer
        self._banks, self._protocol = banks, protocol
        self.gid = f"go-{secrets.token_hex(8)}"

    def between(self, giver, taker, *, taker_exists=True):
        """Open the accounts that it moves money between."""
        self.pair = Pair(self._banks[giver], self._banks[taker], taker_exists=taker_exists)
        return self

    def run(self, case, *, amount=AMOUNT, **options):
        """Run it to its client's end; what the client's user sees."""
        return self.peer.run(case, gid=self.gid, protocol=self._protocol, amount=amount, **self.pair.query(), **options)

    def ends(self, status, money, *, seconds=RESUMED_SECONDS):
        """Check how it ended, on the server and in the banks."""
        assert self.server.wait_for(self.gid, "succeed", "failed", seconds=seconds) == status
        assert self.pair.money() == money
        assert self.kept("protocol") == self._protocol

    def kept(self, field):
        """A field of the transaction as the server keeps it."""
        return self.server.get("query", gid=self.gid).json()["transaction"].get(field, "")


@pytest.fixture
def case(peer, server, banks, protocol):
    return Case(peer, server, banks, protocol)


def on_every_store(test):
    """Run a test on every store of the server even where the others run on SQLite only."""
    test.on_every_store = True
    return test


BANKS = ["mariadb", "postgres", "redis"]
SQL_BANKS = BANKS[:2]


@pytest.mark.parametrize("bank", BANKS)
class TestSaga:
    @pytest.mark.parametrize("kind", ["saga", "saga_wait", "saga_concurrent", "saga_order"])
    def test_succeeds(self, case, bank, kind):
        assert case.between(bank, bank).run(kind).error == ""
        case.ends("succeed", MOVED)

    @pytest.mark.parametrize("kind", ["saga", "saga_wait", "saga_concurrent", "saga_order"])
    def test_rolls_back(self, case, bank, kind):
        # The barrier on Redis looks at the account first: there even the compensation of a missing one is refused.
        taker = "mariadb" if bank == "redis" else bank
        error = case.between(bank, taker, taker_exists=False).run(kind).error
        assert ("FAILURE" in error) == (kind == "saga_wait"), error
        case.ends("failed", REFUSED)
        assert "FAILURE" in case.kept("rollback_reason")


def test_saga_in_order(case, banks):
    case.between("mariadb", "mariadb").run("saga_order")
    case.ends("succeed", MOVED)
    assert [branch for branch, _, _ in banks["mariadb"].barriers(case.gid)] == ["02", "01"]


def test_saga_step_that_is_ongoing_is_called_again(case):
    assert case.between("mariadb", "postgres").run("saga", ongoing=1).error == ""
    case.ends("succeed", MOVED)


@on_every_store
@pytest.mark.parametrize("kind", ["saga", "saga_mixed"])
def test_saga_between_two_databases(case, kind):
    """Mixed: the first branch is called over HTTP, whatever the transaction's protocol is."""
    assert case.between("redis", "postgres").run(kind).error == ""
    case.ends("succeed", MOVED)


@on_every_store
@pytest.mark.parametrize("kind", ["saga", "saga_mixed"])
def test_saga_between_two_databases_rolls_back(case, kind):
    assert case.between("redis", "postgres", taker_exists=False).run(kind).error == ""
    case.ends("failed", REFUSED)


def test_gid_from_the_server(case):
    case.gid = ""
    case.gid = case.between("mariadb", "mariadb").run("saga").gid
    assert len(case.gid) == 22
    case.ends("succeed", MOVED)


def test_a_call_that_is_repeated_does_nothing(case):
    case.between("mariadb", "postgres").run("saga")
    case.ends("succeed", MOVED)
    for branch, store, account, amount in (
        ("01", "mariadb", case.pair.giving, -AMOUNT),
        ("02", "postgres", case.pair.taking, AMOUNT),
    ):
        names = {"gid": case.gid, "trans_type": "saga", "branch_id": branch, "op": "action"}
        body = {"store": store, "account": account, "amount": amount}
        assert case.peer.post("/bank/action", body, **names) == (200, {"dtm_result": "SUCCESS"})
    assert case.pair.money() == MOVED


@pytest.mark.parametrize("bank", BANKS)
class TestMsg:
    def test_do_and_submit(self, case, bank):
        assert case.between(bank, "mariadb").run("msg").error == ""
        case.ends("succeed", MOVED)

    def test_the_business_refuses(self, case, bank):
        error = case.between(bank, "mariadb").run("msg", amount=START + 1).error
        assert "FAILURE" in error
        case.ends("failed", UNMOVED)


@pytest.mark.parametrize("amount", [AMOUNT, START + 1])
def test_msg_with_the_short_form(case, amount):
    """DoAndSubmitDB: the client itself begins and commits the local transaction."""
    error = case.between("mariadb", "postgres").run("msg_db", amount=amount).error
    assert ("FAILURE" in error) == (amount > START), error
    case.ends(*(("succeed", MOVED) if amount == AMOUNT else ("failed", UNMOVED)))


@pytest.mark.parametrize("bank", BANKS)
def test_msg_whose_local_work_comes_after_the_query(case, bank):
    """The answer to the query was final: the barrier refuses the work that comes later."""
    assert case.between(bank, "mariadb").run("msg", late="yes", timeout=1).error == "DUPLICATED"
    case.ends("failed", UNMOVED)


def test_msg_whose_receiver_is_still_at_work(case):
    assert case.between("redis", "mariadb").run("msg", ongoing=1).error == ""
    case.ends("succeed", MOVED)


@on_every_store
def test_topic(case):
    topic = f"topic{secrets.token_hex(6)}"
    case.between("mariadb", "postgres")
    assert "topic not found" in case.run("msg", topic=topic).error
    assert case.pair.money() == UNMOVED
    assert case.run("topic_subscribe", topic=topic).error == ""
    assert "this url exists" in case.run("topic_subscribe", topic=topic).error
    case.gid = f"go-{secrets.token_hex(8)}"
    assert case.run("msg", topic=topic).error == ""
    case.ends("succeed", MOVED)
    assert case.run("topic_unsubscribe", topic=topic).error == ""
    assert "this topic is empty" in case.run("topic_unsubscribe", topic=topic).error
    assert case.run("topic_delete", topic=topic).error == ""
    assert case.run("topic_delete", topic=topic).error != ""


@pytest.mark.parametrize("bank", SQL_BANKS)
class TestTcc:
    @pytest.mark.parametrize("kind", ["tcc", "tcc_nested"])
    def test_succeeds(self, case, bank, kind):
        assert case.between(bank, bank).run(kind).error == ""
        case.ends("succeed", MOVED)
        assert len(case.server.branches(case.gid)) == (4 if kind == "tcc" else 6)

    @pytest.mark.parametrize("kind", ["tcc", "tcc_nested"])
    def test_rolls_back(self, case, bank, kind):
        error = case.between(bank, bank, taker_exists=False).run(kind).error
        assert "FAILURE" in error
        case.ends("failed", REFUSED)
        assert "FAILURE" in case.kept("rollback_reason")


@pytest.mark.parametrize(
    ("giver", "taker"), [("mariadb", "mariadb"), ("postgres", "postgres"), ("mariadb", "postgres")]
)
class TestXa:
    def test_succeeds(self, case, giver, taker):
        assert case.between(giver, taker).run("xa").error == ""
        case.ends("succeed", MOVED)

    def test_rolls_back(self, case, giver, taker):
        assert "FAILURE" in case.between(giver, taker, taker_exists=False).run("xa").error
        case.ends("failed", REFUSED)


class TestJsonRpc:
    """The client's JSON-RPC; it has none for branches of branches, XA and workflows."""

    @pytest.fixture
    def case(self, peer, server, banks):
        return Case(peer, server, banks, "json-rpc")

    @pytest.mark.parametrize("kind", ["saga", "saga_order", "msg", "msg_db", "tcc"])
    def test_succeeds(self, case, kind):
        assert case.between("mariadb", "postgres").run(kind).error == ""
        case.ends("succeed", MOVED)

    @pytest.mark.parametrize("kind", ["saga", "saga_wait", "tcc"])
    def test_rolls_back(self, case, kind):
        error = case.between("mariadb", "postgres", taker_exists=False).run(kind).error
        assert ("FAILURE" in error) == (kind != "saga"), error
        case.ends("failed", REFUSED)
        assert "FAILURE" in case.kept("rollback_reason")


def test_tcc_try_that_comes_after_its_cancel(case):
    """The transaction times out while the second try is under way; that try then finds the door shut."""
    assert case.between("mariadb", "postgres").run("tcc", late="yes", timeout=1).error
    case.ends("failed", UNMOVED)
    assert case.kept("rollback_reason") == "Timeout after 1 seconds"


WORKFLOWS = ["workflow_saga", "workflow_tcc", "workflow_xa", "workflow_mixed"]


@pytest.mark.parametrize("kind", WORKFLOWS)
@pytest.mark.parametrize("bank", SQL_BANKS)
class TestWorkflow:
    def test_succeeds(self, case, bank, kind):
        said = case.between(bank, bank).run(kind)
        assert said.error == ""
        case.ends("succeed", MOVED)
        # A second start returns what the first returned and does nothing.
        assert case.run(kind) == said
        assert case.pair.money() == MOVED

    def test_rolls_back(self, case, bank, kind):
        assert "FAILURE" in case.between(bank, bank, taker_exists=False).run(kind).error
        case.ends("failed", REFUSED)
        assert "FAILURE" in case.kept("rollback_reason")
        assert "FAILURE" in case.run(kind).error


def test_workflow_waits_for_an_ongoing_step(case):
    said = case.between("mariadb", "postgres").run("workflow_saga", ongoing=1)
    assert "ONGOING" in said.error
    case.ends("succeed", MOVED)


class Crash(NamedTuple):
    """A program that kills itself in the middle of a case, and what is to come of it."""

    case: str
    giver: str
    crash: str
    ends: str
    taker_exists: bool = True


CRASHES = {
    # The server asks the query address of the sender that was started again.
    "msg that was committed on MariaDB": Crash("msg", "mariadb", "before_submit", "succeed"),
    "msg that was committed on Redis": Crash("msg", "redis", "before_submit", "succeed"),
    "msg that was not committed on MariaDB": Crash("msg", "mariadb", "before_commit", "failed"),
    "msg that was not committed on Redis": Crash("msg", "redis", "before_commit", "failed"),
    # Their client cannot go on: the server rolls back when the time is over.
    "tcc": Crash("tcc", "mariadb", "in_between", "failed"),
    "xa": Crash("xa", "mariadb", "in_between", "failed"),
    # The server asks the worker that was started again to go on.
    "workflow with saga steps": Crash("workflow_saga", "mariadb", "in_between", "succeed"),
    "workflow with TCC steps": Crash("workflow_tcc", "mariadb", "in_between", "succeed"),
    "workflow with XA steps": Crash("workflow_xa", "mariadb", "in_between", "succeed"),
    "workflow with mixed steps": Crash("workflow_mixed", "mariadb", "in_between", "succeed"),
    "workflow that is then refused": Crash("workflow_mixed", "mariadb", "in_between", "failed", taker_exists=False),
    "workflow in its second phase": Crash("workflow_mixed", "mariadb", "in_the_second_phase", "succeed"),
}


@pytest.fixture(scope="module")
def crashed(start, server, banks, protocol):
    """The case of each crash, when its program was killed and has been started again.

    Each has a program of its own, so that the server's waiting times pass for all of them together.
    """
    cases = {}
    with contextlib.ExitStack() as programs:
        for name, crash in CRASHES.items():
            case = cases[name] = Case(programs.enter_context(start(protocol)), server, banks, protocol)
            case.between(crash.giver, "postgres", taker_exists=crash.taker_exists)
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                case.run(crash.case, crash=crash.crash, timeout=1)
            assert case.peer.wait() == -signal.SIGKILL
            case.left = (server.status(case.gid), case.pair.money())
            case.peer.start()
        yield cases


@on_every_store
@pytest.mark.parametrize("name", CRASHES)
def test_program_that_is_killed(crashed, name):
    crash, case = CRASHES[name], crashed[name]
    status, money = case.left
    assert status == "prepared"
    assert money != MOVED
    nothing = UNMOVED if crash.taker_exists else REFUSED
    case.ends(crash.ends, MOVED if crash.ends == "succeed" else nothing)
    if crash.case.startswith("workflow") and crash.ends == "succeed":
        # What a step gave before the crash, the run after it has from the server.
        assert case.run(crash.case).result == ("noted" if crash.case == "workflow_mixed" else "moved")
