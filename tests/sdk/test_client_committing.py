"""A message and a local transaction: both or neither, whatever fails and wherever the program dies.

The local database is SQLite, the server is real, and it asks back over HTTP what the barrier's table says.
"""

# ruff: noqa: PT012 - the block itself is under test: how it is left decides

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import textwrap

import aiosqlite
import pytest

from reefknot import AsyncClient, Barrier, BarrierMissing, Client, Failure, OutcomeUnknown, Refused, ServerUnavailable
from reefknot.barrier import LocalTransactionOpen
from reefknot.barrier.core import TransactionLost
from reefknot.barrier.statements import Database, table_sql
from reefknot.client.exchange import Response
from reefknot.client.transports.urllib3 import Urllib3Transport
from reefknot.model import Status
from reefknot.testing.participant import OK, Participant, Say
from reefknot.testing.server import LocalServer, free_port
from sdk.client_faces import FACES, Driven
from sdk.workflow_bank import new_gid

PAY = "UPDATE account SET balance = balance - 30"


class Shop:
    """A business with a SQLite database that answers the server's question from its barrier's table."""

    def __init__(self, path):
        self.path = path
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(table_sql(Database.SQLITE))
            connection.execute("CREATE TABLE account (balance integer)")
            connection.execute("INSERT INTO account VALUES (100)")
            connection.commit()

    @property
    def balance(self):
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("SELECT balance FROM account").fetchone()[0]

    def asked(self, call):
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            try:
                Barrier(call.mode, call.gid, call.branch_id, call.op).asked(connection)
            except Failure as no:
                return Say(409, no.reason.encode())
        return OK


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path / "shop.db")


@pytest.fixture
def bank(shop):
    with Participant() as bank:
        bank.on("/asked", shop.asked)
        yield bank


class Sync:
    """``Client`` and ``sqlite3``."""

    def __init__(self, url, path):
        self.client = Client(url, timeout=1)
        self.connection = sqlite3.connect(path)

    def execute(self, tx, statement):
        tx.execute(statement)

    def close(self):
        self.connection.close()
        self.client.close()

    @staticmethod
    def worker(work):
        return work


class Async:
    """``AsyncClient`` and ``aiosqlite``, each call driven from here."""

    def __init__(self, url, path):
        self._runner = asyncio.Runner()
        self.client = Driven(AsyncClient(url, timeout=1), self._runner)
        self.connection = self._run(aiosqlite.connect(path))

    def _run(self, awaitable):
        async def awaited():
            return await awaitable

        return self._runner.run(awaited())

    def execute(self, tx, statement):
        self._run(tx.execute(statement))

    def close(self):
        self._run(self.connection.close())
        self.client.close()
        self._runner.close()

    @staticmethod
    def worker(work):
        async def worked(barrier):
            return work(barrier)

        return worked


@pytest.fixture(params=FACES)
def program(request, server, shop):
    made = {"sync": Sync, "async": Async}[request.param](server.url, shop.path)
    yield made
    made.close()


def delivered(bank):
    return [call.op for call in bank.calls if call.path == "/in"]


def in_the_end(server, gid):
    """What becomes of a message once the server has asked back and everything is due."""
    for _ in range(3):
        server.cron(100)
    return server.status(gid)


def test_commit_sends_the_message(program, shop, bank):
    msg = program.client.msg(wait=True).send(bank.url("/in"), {"amount": 30})
    with msg.committing(program.connection, ask=bank.url("/asked")) as tx:
        assert tx is program.connection
        program.execute(tx, PAY)
        assert delivered(bank) == []
    assert msg.outcome.status is Status.SUCCEED
    assert shop.balance == 70
    assert delivered(bank) == ["action"]
    assert bank.calls[0].body == b'{"amount":30}'


@pytest.mark.conformance("TestMsgDoAndSubmitBusiFailed")
def test_exception_rolls_back_and_drops_the_message(program, server, shop, bank):
    msg = program.client.msg().send(bank.url("/in"))
    with pytest.raises(KeyError), msg.committing(program.connection, ask=bank.url("/asked")) as tx:
        program.execute(tx, PAY)
        raise KeyError("no such customer")
    found = program.client.get(msg.gid)
    assert (found.status, shop.balance, delivered(bank)) == (Status.FAILED, 100, [])
    # Nothing is left open: the next one works on the same connection.
    with (
        program.client.msg(wait=True).send(bank.url("/in")).committing(program.connection, ask=bank.url("/asked")) as tx
    ):
        program.execute(tx, PAY)
    assert shop.balance == 70


def test_prepare_that_fails_begins_nothing(program, shop, bank, server):
    gid = program.client.msg().gid
    program.client.msg(gid).send(bank.url("/other")).submit()
    with (
        pytest.raises(Refused),
        program.client.msg(gid).send(bank.url("/in")).committing(program.connection, ask=bank.url("/asked")),
    ):
        pytest.fail("the block must not run")
    assert shop.balance == 100
    assert not program.connection.in_transaction


def test_missing_table_leaves_the_message_until_it_can_be_asked(program, server, shop, bank):
    """An earlier run with this gid may have had its table: without it nobody can say that nothing was committed."""
    with contextlib.closing(sqlite3.connect(shop.path)) as connection:
        connection.execute("ALTER TABLE barrier RENAME TO moved")
    msg = program.client.msg().send(bank.url("/in"))
    with pytest.raises(BarrierMissing) as caught, msg.committing(program.connection, ask=bank.url("/asked")):
        pytest.fail("the block must not run")
    assert "not known" in caught.value.__notes__[0]
    assert server.status(msg.gid) == "prepared"
    assert not program.connection.in_transaction
    with contextlib.closing(sqlite3.connect(shop.path)) as connection:
        connection.execute("ALTER TABLE moved RENAME TO barrier")
    assert (in_the_end(server, msg.gid), delivered(bank)) == ("failed", [])


def test_connection_inside_a_transaction_is_refused_and_left_alone(program, server, shop, bank):
    program.execute(program.connection, PAY)
    msg = program.client.msg().send(bank.url("/in"))
    with pytest.raises(LocalTransactionOpen), msg.committing(program.connection, ask=bank.url("/asked")):
        pytest.fail("the block must not run")
    assert program.connection.in_transaction
    assert program.client.get(msg.gid) is None


class OddCommit(sqlite3.Connection):
    """A connection whose commit fails: before it was done, after it was done, or for good."""

    failing = ""

    def execute(self, statement, *parameters):
        if self.failing and statement == "COMMIT":
            how, self.failing = self.failing, ""
            if how == "after":
                super().execute(statement)
            if how == "broken":
                self.close()
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(statement, *parameters)


@pytest.mark.parametrize("how", ["before", "after", "broken"])
def test_commit_that_raises_is_looked_into(how, server, shop, bank, caplog):
    connection = sqlite3.connect(shop.path, factory=OddCommit)
    msg = Client(server.url).msg().send(bank.url("/in"))
    wanted = {"before": sqlite3.OperationalError, "broken": OutcomeUnknown}.get(how)
    raising = pytest.raises(wanted) if wanted else contextlib.nullcontext()
    with raising as caught, msg.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
        connection.failing = how
    server.settle()
    if how == "after":
        assert (server.status(msg.gid), shop.balance, delivered(bank)) == ("succeed", 70, ["action"])
        assert "disk I/O error" in caplog.text
    elif how == "before":
        assert (server.status(msg.gid), shop.balance, delivered(bank)) == ("failed", 100, [])
    else:
        assert caught.value.gid == msg.gid
        assert "the server asks back" in str(caught.value)
        assert server.status(msg.gid) == "prepared"
        assert (in_the_end(server, msg.gid), shop.balance, delivered(bank)) == ("failed", 100, [])
    connection.close()


class CtrlC(sqlite3.Connection):
    """A connection at which somebody presses Ctrl-C: before this statement is executed, or after it."""

    at, after = "", False

    def execute(self, statement, *parameters):
        if statement != self.at:
            return super().execute(statement, *parameters)
        self.at = ""
        if self.after:
            super().execute(statement)
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("at", "after", "ends"),
    [("COMMIT", False, ("failed", 100)), ("COMMIT", True, ("succeed", 70)), ("ROLLBACK", False, ("failed", 100))],
)
def test_interruption_at_the_end_leaves_no_transaction_open(at, after, ends, server, shop, bank):
    connection = sqlite3.connect(shop.path, factory=CtrlC)
    msg = Client(server.url).msg().send(bank.url("/in"))
    with pytest.raises(KeyboardInterrupt) as caught, msg.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
        connection.at, connection.after = at, after
        if at == "ROLLBACK":
            raise ZeroDivisionError
    assert connection.at == ""
    assert not connection.in_transaction
    assert "the server asks back" in caught.value.__notes__[0]
    assert (server.status(msg.gid), delivered(bank)) == ("prepared", [])
    # What is done next on the connection is no part of it.
    connection.commit()
    assert (in_the_end(server, msg.gid), shop.balance) == ends
    connection.close()


def test_work_that_commits_by_itself_and_then_fails_is_sent(server, shop, bank):
    connection = sqlite3.connect(shop.path)
    msg = Client(server.url).msg(wait=True).send(bank.url("/in"))
    with pytest.raises(KeyError) as caught, msg.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
        tx.commit()
        raise KeyError("too late")
    assert (shop.balance, delivered(bank)) == (70, ["action"])
    assert "is committed, so the message is sent all the same" in caught.value.__notes__[0]
    connection.close()


def test_block_that_rolls_back_by_itself_sends_nothing(program, server, shop, bank):
    msg = program.client.msg().send(bank.url("/in"))
    with pytest.raises(TransactionLost), msg.committing(program.connection, ask=bank.url("/asked")) as tx:
        program.execute(tx, PAY)
        program.execute(tx, "ROLLBACK")
    assert (in_the_end(server, msg.gid), shop.balance, delivered(bank)) == ("failed", 100, [])


class Lossy:
    """Carries requests, but loses those of one verb, or the answers to them."""

    def __init__(self, verb, *, answer_only):
        self._inner = Urllib3Transport()
        self._verb = verb
        self._answer_only = answer_only

    def send(self, request):
        lost = request.url.endswith(f"/{self._verb}")
        response = None if lost and not self._answer_only else self._inner.send(request)
        if lost:
            raise ConnectionResetError("the network is down")
        return response

    def close(self):
        self._inner.close()


@pytest.mark.parametrize("answer_only", [False, True], ids=["request lost", "answer lost"])
def test_submit_without_an_answer_is_delivered_all_the_same(answer_only, server, shop, bank, caplog):
    connection = sqlite3.connect(shop.path)
    client = Client(server.url, transport=Lossy("submit", answer_only=answer_only), call_transport=Urllib3Transport())
    msg = client.msg().send(bank.url("/in"))
    with msg.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
    assert msg.outcome.status is Status.PREPARED
    assert "the server asks back" in caplog.text
    assert (in_the_end(server, msg.gid), shop.balance, delivered(bank)) == ("succeed", 70, ["action"])
    waiting = client.msg(wait=True).send(bank.url("/in"))
    with pytest.raises(OutcomeUnknown), waiting.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
    assert (in_the_end(server, waiting.gid), shop.balance) == ("succeed", 40)
    connection.close()


def test_prepare_without_an_answer_does_nothing_and_is_dropped(server, shop, bank):
    connection = sqlite3.connect(shop.path)
    client = Client(server.url, transport=Lossy("prepare", answer_only=True))
    msg = client.msg().send(bank.url("/in"))
    with pytest.raises(OutcomeUnknown), msg.committing(connection, ask=bank.url("/asked")):
        pytest.fail("the block must not run")
    assert server.status(msg.gid) == "prepared"
    assert (in_the_end(server, msg.gid), shop.balance, delivered(bank)) == ("failed", 100, [])
    connection.close()


@pytest.mark.conformance("TestMsgDoAndSubmitPrepareFailed")
def test_server_that_is_not_there_is_told_before_anything_happens(shop, bank):
    connection = sqlite3.connect(shop.path)
    msg = Client(f"http://127.0.0.1:{free_port()}").msg().send(bank.url("/in"))
    with pytest.raises(ServerUnavailable), msg.committing(connection, ask=bank.url("/asked")):
        pytest.fail("the block must not run")
    assert not connection.in_transaction
    connection.close()


@pytest.mark.conformance("TestMsgDoAndSubmitBusiLater")
def test_message_that_the_server_gave_up_cannot_commit_any_more(server, shop, bank):
    connection = sqlite3.connect(shop.path)
    client = Client(server.url)
    msg = client.msg().send(bank.url("/in"))
    msg.prepare(bank.url("/asked"))
    asking = sqlite3.connect(shop.path)
    with contextlib.suppress(Failure):
        Barrier("msg", msg.gid, "00", "msg").asked(asking)
    again = client.msg(msg.gid).send(bank.url("/in"))
    with pytest.raises(Refused) as caught, again.committing(connection, ask=bank.url("/asked")):
        pytest.fail("the block must not run")
    assert caught.value.status == "failed"
    assert (server.status(msg.gid), shop.balance) == ("failed", 100)
    asking.close()
    connection.close()


def test_program_that_runs_again_after_its_commit_does_not_work_twice(server, shop, bank):
    """With a gid of one's own: the first run died between commit and submit."""
    connection = sqlite3.connect(shop.path)
    client = Client(server.url)
    first = Client(server.url, transport=Lossy("submit", answer_only=False)).msg("order-1").send(bank.url("/in"))
    with first.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
    second = client.msg("order-1").send(bank.url("/in"))
    with (
        pytest.raises(Refused, match="committed before") as caught,
        second.committing(connection, ask=bank.url("/asked")),
    ):
        pytest.fail("the block must not run")
    assert caught.value.status == "submitted"
    server.settle()
    assert (server.status("order-1"), shop.balance, delivered(bank)) == ("succeed", 70, ["action"])
    connection.close()


def interrupted(server, shop, bank, gid):
    """A first run with this gid: it committed, and died before it could submit."""
    with contextlib.closing(sqlite3.connect(shop.path)) as connection, contextlib.suppress(ConnectionResetError):
        client = Client(server.url, transport=Lossy("submit", answer_only=False))
        with client.msg(gid).send(bank.url("/in")).committing(connection, ask=bank.url("/asked")) as tx:
            tx.execute(PAY)
    assert (server.status(gid), shop.balance) == ("prepared", 70)


@pytest.mark.parametrize("trouble", ["open transaction", "locked", "cannot be asked"])
def test_run_that_fails_early_does_not_drop_what_an_earlier_one_committed(program, server, shop, bank, trouble):
    gid = new_gid()
    interrupted(server, shop, bank, gid)
    again = program.client.msg(gid).send(bank.url("/in"))
    other = sqlite3.connect(shop.path)
    if trouble == "open transaction":
        program.execute(program.connection, "UPDATE account SET balance = balance")
    else:
        program.execute(program.connection, "PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
    if trouble == "cannot be asked":
        program.execute(program.connection, "PRAGMA query_only = 1")
    with (
        pytest.raises((LocalTransactionOpen, sqlite3.OperationalError)),
        again.committing(program.connection, ask=bank.url("/asked")),
    ):
        pytest.fail("the block must not run")
    assert server.status(gid) != "failed"
    other.close()
    if trouble == "open transaction":
        program.execute(program.connection, "ROLLBACK")
    assert (in_the_end(server, gid), shop.balance, delivered(bank)) == ("succeed", 70, ["action"])


def test_refusal_of_a_later_run_does_not_drop_what_an_earlier_one_committed(program, server, shop, bank):
    gid = new_gid()
    interrupted(server, shop, bank, gid)

    def look_first(barrier):
        raise Failure("not enough money")

    with pytest.raises(Failure) as caught:
        program.client.msg(gid).send(bank.url("/in")).do_and_submit(bank.url("/asked"), program.worker(look_first))
    assert "is committed, so the message is sent all the same" in caught.value.__notes__[0]
    assert (in_the_end(server, gid), shop.balance, delivered(bank)) == ("succeed", 70, ["action"])


class Forbidding(Urllib3Transport):
    """A gateway that lets no submit through any more: the token has expired."""

    def send(self, request):
        if request.url.endswith("/submit"):
            return Response(403, b"token expired")
        return super().send(request)


def test_submit_that_is_not_let_through_is_no_failed_transaction(server, shop, bank, caplog):
    connection = sqlite3.connect(shop.path)
    client = Client(server.url, transport=Forbidding())
    msg = client.msg().send(bank.url("/in"))
    with msg.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
    assert msg.outcome.status is Status.PREPARED
    assert "was not confirmed" in caplog.text
    waiting = client.msg(wait=True).send(bank.url("/in"))
    with pytest.raises(Refused) as caught, waiting.committing(connection, ask=bank.url("/asked")) as tx:
        tx.execute(PAY)
    assert "the local transaction is committed" in caught.value.__notes__[0]
    gids = [msg.gid, waiting.gid]
    assert ([in_the_end(server, gid) for gid in gids], shop.balance) == (["succeed", "succeed"], 40)
    connection.close()
    client.close()


@pytest.mark.conformance("TestMsgDoAndSubmit", "TestMsgJrpcDoAndSubmit")
def test_do_and_submit_sends_what_the_function_committed(program, server, shop, bank):
    def pay(barrier):
        with contextlib.closing(sqlite3.connect(shop.path)) as connection:
            own = Barrier("msg", barrier.branch.gid, "00", "msg")
            return own.call(connection, lambda tx: tx.execute(PAY).rowcount)

    msg = program.client.msg(wait=True).send(bank.url("/in"))
    assert msg.do_and_submit(bank.url("/asked"), program.worker(pay)) == 1
    assert (shop.balance, delivered(bank)) == (70, ["action"])


@pytest.mark.parametrize(
    ("committed", "error", "ends"),
    [
        (False, Failure("no money"), "failed"),
        (False, KeyError("no customer"), "failed"),
        (True, KeyError("after the commit"), "succeed"),
    ],
)
def test_do_and_submit_finds_out_what_an_error_means(program, server, shop, bank, committed, error, ends):
    def work(barrier):
        if committed:
            with contextlib.closing(sqlite3.connect(shop.path)) as connection:
                Barrier("msg", barrier.branch.gid, "00", "msg").call(connection, lambda tx: tx.execute(PAY))
        raise error

    msg = program.client.msg().send(bank.url("/in"))
    with pytest.raises(type(error)):
        msg.do_and_submit(bank.url("/asked"), program.worker(work))
    server.settle()
    assert server.status(msg.gid) == ends
    assert shop.balance == (70 if committed else 100)
    assert [call.op for call in bank.calls if call.path == "/asked"] == ["msg"]


def test_do_and_submit_whose_work_came_too_late_drops_the_message(program, server, shop, bank):
    def work(barrier):
        with contextlib.closing(sqlite3.connect(shop.path)) as connection, connection:
            own = Barrier("msg", barrier.branch.gid, "00", "msg")
            with contextlib.suppress(Failure), contextlib.closing(sqlite3.connect(shop.path)) as server_asks:
                own.asked(server_asks)
            assert not own.passes(connection)
            barrier.reason = own.reason

    msg = program.client.msg().send(bank.url("/in"))
    with pytest.raises(Failure, match="did not commit and cannot any more"):
        msg.do_and_submit(bank.url("/asked"), program.worker(work))
    assert in_the_end(server, msg.gid) == "failed"
    assert (shop.balance, delivered(bank)) == (100, [])


def test_do_and_submit_that_cannot_find_out_leaves_it_to_the_server(program, server, shop, bank):
    def work(barrier):
        raise KeyError("who knows")

    msg = program.client.msg().send(bank.url("/in"))
    bank.script("/asked", [Say(500)])
    with pytest.raises(KeyError) as caught:
        msg.do_and_submit(bank.url("/asked"), program.worker(work))
    assert "not known" in caught.value.__notes__[0]
    assert server.status(msg.gid) == "prepared"
    assert in_the_end(server, msg.gid) == "failed"


DYING = textwrap.dedent("""
    import os, signal, sqlite3, sys
    from reefknot import Client
    from reefknot.client.transports.urllib3 import Urllib3Transport

    url, path, bank, place = sys.argv[1:]

    def die(here):
        if here == place:
            os.kill(os.getpid(), signal.SIGKILL)

    class Transport(Urllib3Transport):
        def send(self, request):
            verb = request.url.rpartition("/")[2]
            die(f"before {verb}")
            response = super().send(request)
            die(f"after {verb}")
            return response

    connection = sqlite3.connect(path)
    msg = Client(url, transport=Transport()).msg("dying").send(f"{bank}/in", {"amount": 30})
    with msg.committing(connection, ask=f"{bank}/asked") as tx:
        tx.execute("UPDATE account SET balance = balance - 30")
        die("before commit")
    die("after all")
""")


@pytest.mark.crash
@pytest.mark.parametrize(
    ("place", "status", "balance"),
    [
        ("before prepare", "", 100),
        ("after prepare", "failed", 100),
        ("before commit", "failed", 100),
        ("before submit", "succeed", 70),
        ("after submit", "succeed", 70),
        ("after all", "succeed", 70),
    ],
)
def test_killed_program_leaves_both_or_neither(place, status, balance, shop, bank):
    with LocalServer() as server:
        arguments = [sys.executable, "-c", DYING, server.url, str(shop.path), bank.url(""), place]
        ended = subprocess.run(arguments, check=False, timeout=60)
        assert ended.returncode == -signal.SIGKILL
        assert in_the_end(server, "dying") == status
    assert shop.balance == balance
    assert delivered(bank) == (["action"] if status == "succeed" else [])
