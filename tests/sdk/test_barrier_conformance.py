"""DTM's own tests of the barrier: a running server, a bank behind the barrier, real databases."""

import contextlib
import secrets
import sqlite3

import psycopg
import pymysql
import pytest
import redis as redis_py

from acceptance.application import Application
from reefknot.barrier import Barrier, Reason
from reefknot.barrier.statements import Database, table_sql
from reefknot.errors import Failure
from reefknot.testing.participant import ERROR, OK, Participant, Say
from reefknot.testing.server import LocalServer
from sdk.barrier_business import run_script
from sdk.barrier_connections import parts

TABLE = "barrier"
ACCOUNTS = "CREATE TABLE account (name varchar(20) PRIMARY KEY, balance int NOT NULL);"
#: What each path does to which account in which mode; the money is reserved by the try of the sender.
MOVES = {
    ("saga", "/TransOut"): ("out", -30),
    ("saga", "/TransOutRevert"): ("out", +30),
    ("saga", "/TransIn"): ("in", +30),
    ("saga", "/TransInRevert"): ("in", -30),
    ("tcc", "/TransOut"): ("out", -30),
    ("tcc", "/TransOutConfirm"): ("out", 0),
    ("tcc", "/TransOutRevert"): ("out", +30),
    ("tcc", "/TransIn"): ("in", 0),
    ("tcc", "/TransInConfirm"): ("in", +30),
    ("tcc", "/TransInRevert"): ("in", 0),
}


@pytest.fixture(scope="module")
def server():
    with LocalServer("memory://") as server:
        yield server


@pytest.fixture
def branches():
    with Participant() as participant:
        yield participant


@pytest.fixture
def app(server, branches):
    return Application(server, branches)


class Bank:
    """Two accounts, and branches that move money behind the barrier."""

    def __init__(self, participant, *, start=100, times=1):
        self.participant, self.start, self.times = participant, start, times
        self.said = []
        for path in {path for _, path in MOVES}:
            participant.on(path, self.serve)

    def serve(self, call):
        """One branch call; a refusal is answered with 409, what breaks with 500."""
        barrier = Barrier(call.mode, call.gid, call.branch_id, call.op, table=self.table)
        try:
            self.move(barrier, *MOVES[call.mode, call.path])
        except Failure as refusal:
            return Say(409, f"FAILURE {refusal.reason}".encode())
        self.said.append(barrier.reason)
        return OK


class SqlBank(Bank):
    """The bank in an SQL database."""

    table = TABLE

    def __init__(self, database, url, connect, participant, **options):
        super().__init__(participant, **options)
        self.connect = connect
        run_script(database, url, table_sql(database, TABLE) + ACCOUNTS)
        run_script(
            database, url, f"INSERT INTO account VALUES ('out', {self.start}); INSERT INTO account VALUES ('in', 0)"
        )

    def move(self, barrier, account, amount):
        with contextlib.closing(self.connect()) as connection:
            for part in range(1, self.times + 1):
                if barrier.passes(connection, part=part):
                    self.change(connection, account, amount)
            connection.commit()

    def change(self, connection, account, amount):
        cursor = connection.cursor()
        cursor.execute(f"UPDATE account SET balance = balance + {amount} WHERE name = '{account}'")
        cursor.execute(f"SELECT balance FROM account WHERE name = '{account}'")
        if cursor.fetchone()[0] < 0:
            raise Failure("not enough money")

    def all(self, statement):
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]

    @property
    def balances(self):
        return dict(self.all("SELECT name, balance FROM account"))

    def operations(self, gid):
        """The barrier's rows of a gid: branch, operation, number, reason."""
        return sorted(self.all(f"SELECT branch_id, op, barrier_id, reason FROM barrier WHERE gid = '{gid}'"))


class RedisBank(Bank):
    """The bank in Redis."""

    table = ""

    def __init__(self, client, participant, **options):
        super().__init__(participant, **options)
        self.client, self.prefix = client, secrets.token_hex(4)
        client.mset({f"{self.prefix}-out": self.start, f"{self.prefix}-in": 0})

    def move(self, barrier, account, amount):
        barrier.redis_adjust(self.client, f"{self.prefix}-{account}", amount)

    @property
    def balances(self):
        return {name: int(self.client.get(f"{self.prefix}-{name}")) for name in ("out", "in")}


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def sql_bank(request, branches, tmp_path):
    """Makes a bank on an empty database."""
    name = f"bank_{secrets.token_hex(4)}"
    if request.param == "sqlite":
        url = str(tmp_path / "bank.db")
        place = Database.SQLITE, url, lambda: sqlite3.connect(url, timeout=30)
    elif request.param == "postgres":
        server = request.getfixturevalue("postgres")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = server.url_of(name)
        place = Database.POSTGRES, url, lambda: psycopg.connect(url)
    else:
        url = request.getfixturevalue("mariadb").create_database(name)
        place = Database.MYSQL, url, lambda: pymysql.connect(**parts(url))
    return lambda **options: SqlBank(*place, branches, **options)


@pytest.fixture
def redis_bank(redis, branches):
    with redis_py.Redis.from_url(redis.url) as client:
        yield lambda **options: RedisBank(client, branches, **options)


def run_saga(app):
    gid = app.submit(app.saga())
    return gid, app.state(gid)


def run_tcc(app):
    """A tcc of two branches whose tries are called; it is aborted when one refuses, as clients do."""
    gid = app.begin("tcc")
    answers = [app.tcc_branch(gid, name, branch_id) for name, branch_id in (("TransOut", "01"), ("TransIn", "02"))]
    refused = next((answer for answer in answers if answer.status == 409), None)
    ended = app.abort("tcc", gid, refused.body.decode()) if refused else app.end("tcc", gid)
    assert ended.status == 200
    return gid, app.state(gid), refused


@pytest.mark.conformance("TestBaseSqlDB")
def test_base_sql_db(sql_bank):
    bank = sql_bank()
    for breaks in (True, False):
        barrier = Barrier("saga", "g1", "01", "action", table=TABLE)

        def work(connection, breaks=breaks):
            bank.change(connection, "out", -200 if breaks else -30)

        with contextlib.closing(bank.connect()) as connection:
            if breaks:
                with pytest.raises(Failure, match="not enough money"):
                    barrier.call(connection, work)
                assert bank.operations("g1") == []
                assert bank.balances == {"out": 100, "in": 0}
            else:
                barrier.call(connection, work)
    assert bank.operations("g1") == [("01", "action", "01", "action")]
    assert bank.balances == {"out": 70, "in": 0}


@pytest.mark.conformance("TestSagaBarrierNormal")
def test_saga_barrier_normal(app, sql_bank):
    bank = sql_bank()
    _, state = run_saga(app)
    assert (state, bank.balances) == (("succeed", "PSPS"), {"out": 70, "in": 30})
    assert bank.said == [Reason.RUN, Reason.RUN]


@pytest.mark.conformance("TestSagaBarrierRollback")
def test_saga_barrier_rollback(app, sql_bank, branches):
    """The second bank refuses; what it never did is not taken back, what the first did is."""
    bank = sql_bank()
    branches.script("/TransIn", [Say(409, b"FAILURE the account is closed")])
    gid, state = run_saga(app)
    assert (state, bank.balances) == (("failed", "SSSF"), {"out": 100, "in": 0})
    assert sorted(bank.said) == [Reason.NOTHING_TO_UNDO, Reason.RUN, Reason.RUN]
    assert bank.operations(gid) == [
        ("01", "action", "01", "action"),
        ("01", "compensate", "01", "compensate"),
        ("02", "action", "01", "compensate"),
        ("02", "compensate", "01", "compensate"),
    ]


@pytest.mark.conformance("TestSagaBarrier2Normal")
def test_saga_barrier_2_normal(app, sql_bank, branches):
    """Each handler asks its barrier twice, and the first is called twice."""
    bank = sql_bank(times=2)
    branches.script("/TransIn", [ERROR])
    gid = app.submit(app.saga())
    assert app.state(gid) == ("submitted", "PSPP")
    call = app.call("/TransOut", gid, "saga", "01", "action")
    assert call.status == 200
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")
    assert bank.balances == {"out": 40, "in": 60}
    assert [(branch, number) for branch, _, number, _ in bank.operations(gid)] == [
        ("01", "01"),
        ("01", "02"),
        ("02", "01"),
        ("02", "02"),
    ]


@pytest.mark.conformance("TestSagaBarrierRedisNormal")
def test_saga_barrier_redis_normal(app, redis_bank):
    bank = redis_bank()
    _, state = run_saga(app)
    assert (state, bank.balances) == (("succeed", "PSPS"), {"out": 70, "in": 30})


@pytest.mark.conformance("TestSagaBarrierRedisRollback")
def test_saga_barrier_redis_rollback(app, redis_bank, server, branches):
    """The sender, second here, has 20 of 30."""
    bank = redis_bank(start=20)
    steps = [
        {"action": branches.url(f"/{n}"), "compensate": branches.url(f"/{n}Revert")} for n in ("TransIn", "TransOut")
    ]
    gid = app.submit({"gid": server.new_gid(), "trans_type": "saga", "steps": steps, "payloads": ["{}", "{}"]})
    assert app.state(gid) == ("failed", "SSSF")
    assert "not enough" in app.reason(gid)
    assert bank.balances == {"out": 20, "in": 0}
    assert sorted(bank.said) == [Reason.NOTHING_TO_UNDO, Reason.RUN, Reason.RUN]


@pytest.mark.conformance("TestTccBarrierNormal")
def test_tcc_barrier_normal(app, sql_bank):
    bank = sql_bank()
    _, state, refused = run_tcc(app)
    assert (state, refused, bank.balances) == (("succeed", "PSPS"), None, {"out": 70, "in": 30})
    assert bank.said == [Reason.RUN] * 4


@pytest.mark.conformance("TestTccBarrierRollback")
def test_tcc_barrier_rollback(app, sql_bank):
    """The sender has too little: its try is refused, its cancel finds nothing to undo."""
    bank = sql_bank(start=20)
    gid, state, refused = run_tcc(app)
    assert (state, bank.balances) == (("failed", "SPSP"), {"out": 20, "in": 0})
    assert refused.status == 409
    assert ("01", "try", "01", "cancel") in bank.operations(gid)
    assert ("02", "try", "01", "try") in bank.operations(gid)


def disorder(app, bank, branches):
    """The cancel twice, the first time without its answer being heard, and only then the try."""
    serve, answers = bank.serve, [ERROR]
    branches.on("/TransOutRevert", lambda call: (serve(call), answers.pop() if answers else OK)[1])
    gid = app.begin("tcc")
    assert app.register_tcc(gid, "TransOut", "01").status == 200
    app.cron(gid, plus=300)
    assert app.state(gid) == ("aborting", "PP")
    app.cron(gid, plus=300)
    assert app.state(gid) == ("failed", "SP")
    assert app.call("/TransOut", gid, "tcc", "01", "try").status == 200
    assert bank.said == [Reason.NOTHING_TO_UNDO, Reason.REPEATED, Reason.TOO_LATE]
    assert bank.balances == {"out": 200, "in": 0}
    return gid


@pytest.mark.conformance("TestTccBarrierDisorderMysql")
def test_tcc_barrier_disorder_mysql(app, sql_bank, branches):
    bank = sql_bank(start=200)
    gid = disorder(app, bank, branches)
    assert bank.operations(gid) == [("01", "cancel", "01", "cancel"), ("01", "try", "01", "cancel")]


@pytest.mark.conformance("TestTccBarrierDisorderRedis")
def test_tcc_barrier_disorder_redis(app, redis_bank, branches):
    disorder(app, redis_bank(start=200), branches)


@pytest.mark.conformance("TestTccBarrierPanic")
def test_tcc_barrier_panic(sql_bank):
    bank = sql_bank()

    class Panic(BaseException):
        pass

    def work(connection):
        bank.change(connection, "out", -30)
        raise Panic

    with contextlib.closing(bank.connect()) as connection, pytest.raises(Panic):
        Barrier("tcc", "g1", "01", "try", table=TABLE).call(connection, work)
    assert (bank.operations("g1"), bank.balances) == ([], {"out": 100, "in": 0})


def test_query_prepared_as_the_server_asks(server, sql_bank, branches):
    """A message whose sender died: the server asks, and the barrier's table has the answer."""
    bank = sql_bank()

    def asked(call):
        with contextlib.closing(bank.connect()) as connection:
            try:
                Barrier(call.mode, call.gid, call.branch_id, call.op, table=TABLE).asked(connection)
            except Failure as refusal:
                return Say(409, f"FAILURE {refusal.reason}".encode())
        return OK

    branches.on("/QueryPrepared", asked)
    app = Application(server, branches)
    committed, forgotten = (app.prepare(app.msg("/Deliver")) for _ in range(2))
    bank.move(Barrier("msg", committed, "00", "msg", table=TABLE), "out", -30)
    assert set(server.cron(300)) == {committed, forgotten}
    assert (app.state(committed)[0], app.state(forgotten)[0]) == ("succeed", "failed")
    late = Barrier("msg", forgotten, "00", "msg", table=TABLE)
    bank.move(late, "out", -30)
    assert (late.reason, bank.balances["out"]) == (Reason.TOO_LATE, 70)
