"""The accounts of one bank in its own database, and what each operation of a transfer does to them.

An SQL bank keeps a journal in the same local transaction as the money: one line for each time that an
operation changed something, without any key that would keep a second line out. On Redis the journal is
written by the same script.
"""

import contextlib
import queue
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from reefknot import Barrier, Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.xa import XaBranch
from reefknot.xa.mysql import literal

#: What every account holds at first.
START = 100


class Change(NamedTuple):
    """How often the amount is added to each column; and whether the account may refuse for lack of money."""

    balance: int = 0
    frozen: int = 0
    pending: int = 0
    refusable: bool = False


#: ``out`` is the account that pays, ``in`` the one that is paid.
CHANGES = {
    ("out", "action"): Change(balance=-1, refusable=True),
    ("out", "compensate"): Change(balance=1),
    ("out", "rollback"): Change(balance=1),
    ("out", "try"): Change(balance=-1, frozen=1, refusable=True),
    ("out", "confirm"): Change(frozen=-1),
    ("out", "cancel"): Change(balance=1, frozen=-1),
    ("out", "msg"): Change(balance=-1, refusable=True),
    ("in", "action"): Change(balance=1),
    ("in", "compensate"): Change(balance=-1),
    ("in", "rollback"): Change(balance=-1),
    ("in", "try"): Change(pending=1),
    ("in", "confirm"): Change(balance=1, pending=-1),
    ("in", "cancel"): Change(pending=-1),
}
#: What the operations are called where a step of a workflow is held until the end.
HELD = {"action": "try", "commit": "confirm", "rollback": "cancel"}
#: Operations that a closed account refuses.
REFUSED = ("action", "try")


class Line(NamedTuple):
    """One line of the journal."""

    gid: str
    branch_id: str
    op: str
    account: int
    amount: int
    at_ms: float = 0.0


class State(NamedTuple):
    """Everything in one bank's database: balances and what is held, by account; journal and barrier's rows.

    A barrier's row is (gid, branch_id, op, barrier_id): reason. ``prepared`` are xids.
    """

    balances: dict
    held: dict
    journal: list
    barrier: dict
    prepared: list


def change_of(side, query, order):
    """What a call changes.

    Raises:
        Failure: the account is closed.
    """
    if order.get("closed") and side == "in" and query["op"] in REFUSED:
        raise Failure("the account is closed")
    op = query["op"]
    return CHANGES[side, HELD[op] if order["way"] == "held" else op]


def account_of(side, order):
    return order["from" if side == "out" else "to"]


class SqlAccounts:
    """Accounts in PostgreSQL or MariaDB.

    Args:
        url: the bank's database.
        guarded: False is a mistake for the test to find: no barrier, and the end of an xa branch only said.
    """

    now_ms = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
    table = ""

    def __init__(self, url, *, guarded=True):
        self.url = url
        self._guarded = guarded
        self._idle = queue.LifoQueue()

    @contextlib.contextmanager
    def connection(self):
        """One of the pool's connections; it goes back if nothing worse than a refusal happened."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self.connect()
        try:
            yield connection
        except Failure:
            self._idle.put(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def serve(self, side, query, order, client):
        """One call of a branch.

        Raises:
            Failure: it is refused, and nothing was changed.
        """
        if query["trans_type"] == "xa":
            if not self._guarded and query["op"] != "action":
                return
            branch = XaBranch.from_query(query, client, table=self.table)
            branch.call(self.connect, lambda connection: self.change(connection, side, query, order))
            return
        with self.connection() as connection:
            if self._guarded:
                barrier = Barrier.from_query(query, table=self.table)
                barrier.call(connection, lambda connection: self.change(connection, side, query, order))
            else:
                self._unguarded(connection, side, query, order)

    def _unguarded(self, connection, side, query, order):
        try:
            self.change(connection, side, query, order)
        except Failure:
            connection.rollback()
            raise
        connection.commit()

    def change(self, connection, side, query, order):
        """Change the account and write the journal, in the connection's transaction."""
        change = change_of(side, query, order)
        account, amount = account_of(side, order), order["amount"]
        balance, frozen, pending = (amount * times for times in change[:3])
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE account SET balance = balance + %s, frozen = frozen + %s, pending = pending + %s"
                " WHERE number = %s AND (balance >= %s OR %s)",
                (balance, frozen, pending, account, amount, not change.refusable),
            )
            if not cursor.rowcount:
                raise Failure(f"account {account} has too little")
            cursor.execute(
                "INSERT INTO journal (gid, branch_id, op, account, amount, at_ms)"
                f" VALUES (%s, %s, %s, %s, %s, {self.now_ms})",
                (query["gid"], query["branch_id"], query["op"], account, balance),
            )

    def local(self, barrier, order):
        """The money of a workflow, taken away or put back by the workflow itself."""
        branch = barrier.branch
        query = msgspec.structs.asdict(branch)
        # The workflow's own barrier is for a table of the usual name.
        barrier = Barrier(branch.trans_type, branch.gid, branch.branch_id, branch.op, table=self.table)
        with self.connection() as connection:
            barrier.call(connection, lambda connection: self.change(connection, "out", query, order))

    def send(self, msg, query, order, ask):
        """Take the money away, together with a message."""
        with self.connection() as connection, msg.committing(connection, ask=ask, table=self.table):
            self.change(connection, "out", query, order)

    def asked(self, query):
        """Answer the server's question about a message."""
        with self.connection() as connection:
            Barrier.from_query(query, table=self.table).asked(connection)

    # --- the test's own view ----------------------------------------------------------------------

    def create(self, numbers):
        script = table_sql(self.database, self.table)
        with self.session() as run:
            for statement in script.split(";"):
                if text := "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip():
                    run(text)
            columns = "balance int NOT NULL, frozen int NOT NULL, pending int NOT NULL"
            run(f"CREATE TABLE account (number int PRIMARY KEY, {columns})")
            run(
                "CREATE TABLE journal (gid varchar(128) NOT NULL, branch_id varchar(32) NOT NULL,"
                " op varchar(32) NOT NULL, account int NOT NULL, amount int NOT NULL, at_ms bigint NOT NULL)"
            )
            for number in numbers:
                run("INSERT INTO account VALUES (%s, %s, 0, 0)", (number, START))

    def state(self):
        with self.session() as run:
            accounts = run("SELECT number, balance, frozen, pending FROM account")
            journal = run("SELECT gid, branch_id, op, account, amount, at_ms FROM journal")
            table = self.table or "dtm_barrier.barrier"
            rows = run(f"SELECT gid, branch_id, op, barrier_id, reason FROM {table}")
            return State(
                {number: balance for number, balance, _, _ in accounts},
                {number: (frozen, pending) for number, _, frozen, pending in accounts if frozen or pending},
                [Line(*line) for line in journal],
                {tuple(row[:4]): row[4] for row in rows},
                self.prepared(run),
            )

    @contextlib.contextmanager
    def session(self):
        """Runs statements, each in a transaction of its own; each comes back as its rows."""
        connection = self.connect()
        self.alone(connection)

        def run(statement, parameters=None):
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return list(cursor.fetchall()) if cursor.description else []

        with contextlib.closing(connection):
            yield run


class PostgresAccounts(SqlAccounts):
    database = Database.POSTGRES

    def connect(self):
        import psycopg

        # A branch of an xa transaction keeps its locks for as long as the servers are down.
        return psycopg.connect(self.url, options="-c lock_timeout=1500")

    def alone(self, connection):
        connection.autocommit = True

    def prepared(self, run):
        return [xid for (xid,) in run("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")]

    def forget(self):
        """Roll back everything that is prepared."""
        with self.session() as run:
            for xid in self.prepared(run):
                run(f"ROLLBACK PREPARED '{xid}'")


class MariaDbAccounts(SqlAccounts):
    database = Database.MYSQL
    now_ms = "CAST(unix_timestamp(sysdate(3)) * 1000 AS unsigned)"

    def __init__(self, url, *, guarded=True):
        super().__init__(url, guarded=guarded)
        split = urlsplit(url)
        name = split.path.lstrip("/")
        self._place = {"host": split.hostname, "port": split.port, "user": split.username, "database": name}
        self._place["password"] = split.password
        #: In the bank's own database: a name of the user's choice.
        self.table = f"{name}.seen"

    def connect(self):
        import pymysql

        return pymysql.connect(**self._place)

    def alone(self, connection):
        connection.autocommit(True)

    def prepared(self, run):
        return [row[-1] for row in run("XA RECOVER")]

    def forget(self):
        """Roll back everything that is prepared."""
        with self.session() as run:
            for xid in self.prepared(run):
                run(f"XA ROLLBACK {literal(xid.encode())}")


#: KEYS: balance, frozen, pending, journal. ARGV: what is added to each, whether it may refuse, the line.
SCRIPT = """
if ARGV[4] == '1' and tonumber(redis.call('GET', KEYS[1])) + tonumber(ARGV[1]) < 0 then
    return redis.error_reply('FAILURE too little')
end
for i = 1, 3 do redis.call('INCRBY', KEYS[i], ARGV[i]) end
redis.call('RPUSH', KEYS[4], ARGV[5])
"""


class RedisAccounts:
    """Accounts in one database of Redis. A tcc uses ``redis_adjust`` for each number, the rest one script."""

    def __init__(self, url, *, guarded=True):
        import redis

        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self._guarded = guarded

    def serve(self, side, query, order, client):
        """One call of a branch.

        Raises:
            Failure: it is refused, and nothing was changed.
        """
        barrier = Barrier.from_query(query)
        if not self._guarded:
            self._unguarded(side, query, order)
        elif query["trans_type"] == "tcc":
            self._adjust(barrier, side, query, order)
        else:
            self._run(barrier, side, query, order)

    def _adjust(self, barrier, side, query, order):
        change = change_of(side, query, order)
        account = account_of(side, order)
        for name, times in zip(("balance", "frozen", "pending"), change[:3], strict=True):
            # Each of the three is asked for every operation: an undo finds its origin by the number of the call.
            barrier.redis_adjust(self.redis, f"{name}:{account}", times * order["amount"])
        keys, args = self._arguments(side, query, order)
        barrier.script(self.redis, "redis.call('RPUSH', KEYS[1], ARGV[1])", keys[-1:], args[-1:])

    def _run(self, barrier, side, query, order):
        keys, args = self._arguments(side, query, order)
        barrier.script(self.redis, SCRIPT, keys, args)

    def _unguarded(self, side, query, order):
        keys, args = self._arguments(side, query, order)
        try:
            self.redis.eval(SCRIPT, len(keys), *keys, *args)
        except Exception as error:
            if "FAILURE" in str(error):
                raise Failure(str(error)) from error
            raise

    def _arguments(self, side, query, order):
        """The keys and the arguments of ``SCRIPT``."""
        change = change_of(side, query, order)
        account, amount = account_of(side, order), order["amount"]
        line = f"{query['gid']} {query['branch_id']} {query['op']} {account} {amount * change.balance}"
        keys = [*(f"{name}:{account}" for name in ("balance", "frozen", "pending")), "journal"]
        return keys, [*(amount * times for times in change[:3]), int(change.refusable), line]

    def local(self, barrier, order):
        """The money of a workflow, taken away or put back by the workflow itself."""
        self._run(barrier, "out", msgspec.structs.asdict(barrier.branch), order)

    def send(self, msg, query, order, ask):
        """Take the money away, together with a message."""
        msg.do_and_submit(ask, lambda barrier: self._run(barrier, "out", query, order))

    def asked(self, query):
        """Answer the server's question about a message."""
        Barrier.from_query(query).asked(self.redis)

    # --- the test's own view ----------------------------------------------------------------------

    def create(self, numbers):
        self.redis.flushdb()
        for number in numbers:
            self.redis.mset({f"balance:{number}": START, f"frozen:{number}": 0, f"pending:{number}": 0})

    def state(self):
        numbers = [int(key.partition(":")[2]) for key in self.redis.keys("balance:*")]
        values = {key: int(self.redis.get(key)) for key in self.redis.keys("*:*")}
        held = {number: (values[f"frozen:{number}"], values[f"pending:{number}"]) for number in numbers}
        lines = [line.split(" ") for line in self.redis.lrange("journal", 0, -1)]
        # A transfer's gid has no colon, and its barrier's keys end with three parts.
        keys = [key for key in self.redis.keys("*-*-*-*") if ":" not in key]
        return State(
            {number: values[f"balance:{number}"] for number in numbers},
            {number: both for number, both in held.items() if any(both)},
            [Line(gid, branch_id, op, int(account), int(amount)) for gid, branch_id, op, account, amount in lines],
            {tuple(key.rsplit("-", 3)): self.redis.get(key) for key in keys},
            [],
        )


KINDS = {"postgres": PostgresAccounts, "mariadb": MariaDbAccounts, "redis": RedisAccounts}
