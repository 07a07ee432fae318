"""The barrier on real SQLite files: one effect for each operation, whatever arrives when."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reefknot.barrier import Barrier, LocalTransactionOpen, NoLocalTransaction, Reason
from reefknot.barrier.drivers.sqlite import Mode, mode_of
from reefknot.barrier.statements import Database, table_sql
from reefknot.errors import BarrierMissing, Failure, Invalid


@pytest.fixture
def database(tmp_path) -> Path:
    file = tmp_path / "bank.db"
    with connected(file) as conn:
        conn.executescript(table_sql(Database.SQLITE))
        conn.execute("CREATE TABLE account (balance integer NOT NULL)")
        conn.execute("INSERT INTO account VALUES (100)")
    return file


@contextlib.contextmanager
def connected(file: Path, **options):
    with contextlib.closing(sqlite3.connect(file, timeout=20, **options)) as conn, conn:
        yield conn


def barrier(op: str, gid: str = "g1", branch_id: str = "01", trans_type: str = "saga", **options) -> Barrier:
    return Barrier.from_query({"trans_type": trans_type, "gid": gid, "branch_id": branch_id, "op": op}, **options)


def call(file: Path, op: str, change: int = 0, **identity) -> Reason:
    """A branch as a business writes it."""
    guard = barrier(op, **identity)
    with connected(file) as conn:
        if guard.passes(conn):
            conn.execute("UPDATE account SET balance = balance + ?", (change,))
    return guard.reason


def balance(file: Path) -> int:
    with connected(file) as conn:
        return conn.execute("SELECT balance FROM account").fetchone()[0]


def stored(file: Path) -> list[tuple]:
    with connected(file) as conn:
        return conn.execute("SELECT gid, branch_id, op, barrier_id, reason FROM barrier ORDER BY id").fetchall()


@pytest.mark.parametrize("op", ["action", "try", "confirm", "commit"])
def test_a_repeated_call_does_nothing(database, op):
    assert [call(database, op, 30) for _ in range(3)] == [Reason.RUN, Reason.REPEATED, Reason.REPEATED]
    assert balance(database) == 130
    assert stored(database) == [("g1", "01", op, "01", op)]


@pytest.mark.parametrize(("op", "undo"), [("action", "compensate"), ("try", "cancel"), ("action", "rollback")])
def test_an_undo_runs_once_after_its_action(database, op, undo):
    reasons = [call(database, op, 30), call(database, undo, -30), call(database, undo, -30)]
    assert reasons == [Reason.RUN, Reason.RUN, Reason.REPEATED]
    assert balance(database) == 100


@pytest.mark.parametrize(("op", "undo"), [("action", "compensate"), ("try", "cancel"), ("action", "rollback")])
def test_null_compensation_and_hanging_action(database, op, undo):
    assert call(database, undo, -30) is Reason.NOTHING_TO_UNDO
    assert call(database, undo, -30) is Reason.REPEATED
    assert call(database, op, 30) is Reason.TOO_LATE
    assert balance(database) == 100
    assert stored(database) == [("g1", "01", op, "01", undo), ("g1", "01", undo, "01", undo)]


def test_an_action_repeated_after_its_undo_does_nothing(database):
    reasons = [call(database, op, change) for op, change in [("action", 30), ("compensate", -30), ("action", 30)]]
    assert reasons == [Reason.RUN, Reason.RUN, Reason.REPEATED]
    assert balance(database) == 100


def test_failed_work_takes_the_row_with_it(database):
    def work() -> None:
        with connected(database) as conn:
            assert barrier("action").passes(conn)
            conn.execute("UPDATE account_of_nobody SET balance = 0")

    with pytest.raises(sqlite3.OperationalError, match="account_of_nobody"):
        work()
    assert stored(database) == []
    assert call(database, "action", 30) is Reason.RUN
    assert balance(database) == 130


def test_never_commits(database):
    with contextlib.closing(sqlite3.connect(database)) as conn:
        assert barrier("action").passes(conn)
        assert conn.in_transaction
        conn.rollback()
    assert stored(database) == []


def test_two_guards_in_one_handler_are_two_rows(database):
    for expected in (True, False):
        guard = barrier("action")
        with connected(database) as conn:
            assert [guard.passes(conn), guard.passes(conn, part=2)] == [expected, expected]
    assert [row[3] for row in stored(database)] == ["01", "02"]


def test_branches_and_transactions_do_not_disturb_each_other(database):
    identities = [{"gid": "g1"}, {"gid": "g2"}, {"branch_id": "02"}, {"branch_id": "0101"}]
    assert {call(database, "action", 1, **identity) for identity in identities} == {Reason.RUN}
    assert balance(database) == 104


def test_odd_gids_stay_apart(database):
    gids = [
        "Order-A",
        "order-a",
        "order-á",
        "Order-A ",
        " Order-A",
        "order%",
        "order_",
        "' --",
        "订单-1",
        "ä" * 128,
    ]
    assert [call(database, "action", 1, gid=gid) for gid in gids] == [Reason.RUN] * len(gids)
    assert [row[0] for row in stored(database)] == gids


@pytest.mark.parametrize("gid", ["order_", "order%", "ORDER1"])
def test_an_odd_gid_is_not_taken_for_another_one(database, gid):
    assert call(database, "action", 30, gid="order1") is Reason.RUN
    assert call(database, "compensate", -30, gid=gid) is Reason.NOTHING_TO_UNDO
    assert call(database, "action", 30, gid=gid) is Reason.TOO_LATE
    assert balance(database) == 130


def test_a_long_gid_is_refused_and_not_cut(database):
    with pytest.raises(Invalid, match="129 characters"):
        call(database, "action", 1, gid="x" * 129)
    assert stored(database) == []


MESSAGE = {"trans_type": "msg", "branch_id": "00"}


def ask(file: Path) -> bool:
    with contextlib.closing(sqlite3.connect(file, timeout=20)) as conn:
        try:
            barrier("msg", **MESSAGE).asked(conn)
        except Failure:
            return False
    return True


def test_a_check_back_says_yes_after_the_commit(database):
    assert call(database, "msg", -30, **MESSAGE) is Reason.RUN
    assert [ask(database), ask(database)] == [True, True]
    assert balance(database) == 70


def test_a_check_back_blocks_a_late_commit(database):
    assert [ask(database), ask(database)] == [False, False]
    assert call(database, "msg", -30, **MESSAGE) is Reason.TOO_LATE
    with contextlib.closing(sqlite3.connect(database)) as conn, pytest.raises(Failure, match="cannot any more"):
        # Whoever leads the transaction with it must not send the message.
        barrier("msg", **MESSAGE).call(conn, lambda _: pytest.fail("too late"))
    assert balance(database) == 100
    assert stored(database) == [("g1", "00", "msg", "01", "rollback")]


def test_a_check_back_in_an_open_transaction_is_refused(database):
    """The refusal would roll back the row that makes the answer true."""
    with connected(database) as conn:
        conn.execute("UPDATE account SET balance = 0")
        with pytest.raises(LocalTransactionOpen, match="another connection"):
            barrier("msg", **MESSAGE).asked(conn)
        with pytest.raises(LocalTransactionOpen):
            barrier("action").call(conn, lambda _: None)
        conn.rollback()
    assert stored(database) == []


def test_call_commits_what_the_work_did(database):
    with contextlib.closing(sqlite3.connect(database)) as conn:
        guard = barrier("action")
        assert guard.call(conn, lambda one: one.execute("UPDATE account SET balance = 0").rowcount) == 1
        assert (guard.reason, conn.in_transaction) == (Reason.RUN, False)
        assert barrier("action").call(conn, lambda _: pytest.fail("repeated")) is None
    assert balance(database) == 0


def test_a_check_back_waits_for_a_commit_under_way(database):
    answers: list[bool] = []
    with connected(database) as conn:
        assert barrier("msg", **MESSAGE).passes(conn)
        asking = threading.Thread(target=lambda: answers.append(ask(database)))
        asking.start()
        asking.join(0.2)
        assert answers == []
    asking.join(20)
    assert answers == [True]


def test_threads_with_the_same_call_have_one_effect(database):
    reasons: list[Reason] = []
    together = threading.Barrier(8)

    def run() -> None:
        together.wait(20)
        reasons.append(call(database, "action", 30))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(reasons) == [Reason.REPEATED] * 7 + [Reason.RUN]
    assert balance(database) == 130


WORKER = """
import contextlib, sqlite3, sys
from reefknot.barrier import Barrier
file, op, change = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for number in range(50):
    guard = Barrier.from_query({"trans_type": "saga", "gid": f"g{number}", "branch_id": "01", "op": op})
    with contextlib.closing(sqlite3.connect(file, timeout=20)) as conn, conn:
        if guard.passes(conn):
            conn.execute("UPDATE account SET balance = balance + ?", (int(change),))
    print(guard.reason)
"""


def test_processes_with_action_undo_and_duplicates_leave_no_effect(database):
    """Whoever comes first: an undone action, or an undo of nothing that keeps the action out."""
    jobs = [("action", 30), ("action", 30), ("compensate", -30), ("compensate", -30)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(database), op, str(change)], **pipes) for op, change in jobs
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=60)[0].split("\n")[:-1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    ran = {op: [sum(one == "run" for one in calls) for calls in zip(*lines, strict=True)] for op, lines in by_op(said)}
    assert ran["action"] == ran["compensate"]
    assert max(ran["action"]) <= 1
    assert balance(database) == 100


def by_op(said: list[list[str]]) -> list[tuple[str, list[list[str]]]]:
    return [("action", said[:2]), ("compensate", said[2:])]


@pytest.mark.parametrize("factory", [sqlite3.Row, lambda _, row: dict(zip("n", row, strict=True))])
def test_a_row_factory_of_the_connection_does_not_matter(database, factory):
    assert call(database, "compensate") is Reason.NOTHING_TO_UNDO
    with connected(database) as conn:
        conn.row_factory = factory
        guard = barrier("action")
        assert not guard.passes(conn)
    assert guard.reason is Reason.TOO_LATE


def test_autocommit_is_refused(database):
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as conn:
        with pytest.raises(NoLocalTransaction, match="BEGIN"):
            barrier("action").passes(conn)
        assert stored(database) == []
        conn.execute("BEGIN")
        assert barrier("action").passes(conn)
        conn.execute("COMMIT")
    assert len(stored(database)) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has the argument autocommit since Python 3.12")
@pytest.mark.parametrize(("autocommit", "refused"), [(True, True), (False, False)])
def test_autocommit_of_newer_pythons(database, autocommit, refused):
    with contextlib.closing(sqlite3.connect(database, autocommit=autocommit)) as conn:
        expected = pytest.raises(NoLocalTransaction) if refused else contextlib.nullcontext()
        with expected:
            assert barrier("action").passes(conn)
        conn.rollback()


class Newer:
    """What a connection of Python 3.12 shows."""

    def __init__(self, autocommit, isolation_level, in_transaction):
        self.autocommit, self.isolation_level, self.in_transaction = autocommit, isolation_level, in_transaction


@pytest.mark.parametrize(
    ("autocommit", "isolation_level", "in_transaction", "transactional", "always_open"),
    [
        (-1, "", False, True, False),
        (-1, None, False, False, False),
        (-1, None, True, True, False),
        (True, "", False, False, False),  # isolation_level has no effect then, and keeps its default
        (True, "", True, True, False),
        (False, "", True, True, True),
        (False, None, True, True, True),
    ],
)
def test_what_a_connection_says_of_its_mode(autocommit, isolation_level, in_transaction, transactional, always_open):
    mode = mode_of(Newer(autocommit, isolation_level, in_transaction))
    assert (mode.transactional, mode.always_open) == (transactional, always_open)


def test_what_a_connection_without_the_attribute_says_of_its_mode():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        assert not mode_of(conn).transactional
        conn.execute("BEGIN")
        assert mode_of(conn).transactional
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        assert mode_of(conn) == Mode(-1, "", in_transaction=False)


def test_a_missing_table_is_named(tmp_path):
    with connected(tmp_path / "empty.db") as conn, pytest.raises(BarrierMissing) as caught:
        barrier("action").passes(conn)
    assert "table barrier does not exist" in str(caught.value)
    assert "saga g1, branch 01, op action" in str(caught.value)
    assert "reefknot barrier sql --db sqlite --table barrier" in str(caught.value)


def test_other_errors_of_the_table_are_heard(tmp_path):
    with connected(tmp_path / "strange.db") as conn:
        conn.execute(
            "CREATE TABLE barrier (trans_type, gid, branch_id, op, barrier_id, reason CHECK (reason = 'never'),"
            " UNIQUE (gid, branch_id, op, barrier_id))"
        )
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            barrier("action").passes(conn)


def test_a_table_of_another_name(database, tmp_path):
    with connected(database) as conn:
        conn.execute("ATTACH ? AS dtm_barrier", (str(tmp_path / "second.db"),))
        conn.execute(
            "CREATE TABLE dtm_barrier.barrier (trans_type, gid, branch_id, op, barrier_id, reason,"
            " UNIQUE (gid, branch_id, op, barrier_id))"
        )
        table = "dtm_barrier.barrier"
        assert barrier("action", table=table).passes(conn)
        assert not barrier("action", table=table).passes(conn)
        conn.commit()
        with pytest.raises(Failure, match="g1 did not commit"):
            barrier("msg", **MESSAGE, table=table).asked(conn)
        assert conn.execute("SELECT op FROM dtm_barrier.barrier ORDER BY op").fetchall() == [("action",), ("msg",)]
    assert stored(database) == []


def test_columns_and_key_are_those_of_the_other_databases(database):
    with connected(database) as conn:
        columns = [(name, kind.lower()) for _, name, kind, *_ in conn.execute("PRAGMA table_info(barrier)")]
        unique = [name for _, name, is_unique, *_ in conn.execute("PRAGMA index_list(barrier)") if is_unique]
        key = [row[2] for row in conn.execute(f"PRAGMA index_info({unique[0]})")]
    assert columns == [
        ("id", "integer"),
        ("trans_type", "varchar(45)"),
        ("gid", "varchar(128)"),
        ("branch_id", "varchar(128)"),
        ("op", "varchar(45)"),
        ("barrier_id", "varchar(45)"),
        ("reason", "varchar(45)"),
        ("create_time", "datetime"),
        ("update_time", "datetime"),
    ]
    assert len(unique) == 1
    assert key == ["gid", "branch_id", "op", "barrier_id"]
