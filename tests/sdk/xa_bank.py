"""Two banks with xa branches: real HTTP services over a real database, one connection library each."""

import asyncio
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from reefknot import AsyncClient, Client, Failure, Ongoing
from reefknot.barrier.statements import Database, table_sql
from reefknot.xa import AsyncXaBranch, XaBranch
from sdk.barrier_connections import mysqldb, parts

START = 10_000
MOVE = "UPDATE account SET balance = balance + %s WHERE name = %s"


class PyMySql:
    database = Database.MYSQL

    def connect(self, url):
        import pymysql

        return pymysql.connect(**parts(url))

    def move(self, connection, amount, name):
        with connection.cursor() as cursor:
            cursor.execute(MOVE, (amount, name))


class DictCursors(PyMySql):
    """Row factories and autocommit are the user's choice."""

    def connect(self, url):
        import pymysql

        return pymysql.connect(**parts(url), cursorclass=pymysql.cursors.DictCursor, autocommit=True)


class MySqlClient(PyMySql):
    def connect(self, url):
        return mysqldb().connect(**parts(url))


class MySqlConnector(PyMySql):
    def connect(self, url):
        import mysql.connector

        return mysql.connector.connect(**parts(url))


class Psycopg:
    database = Database.POSTGRES

    def connect(self, url):
        import psycopg

        return psycopg.connect(url)

    def move(self, connection, amount, name):
        connection.execute(MOVE, (amount, name))


class AioMySql:
    database = Database.MYSQL
    asynchronous = True

    async def connect(self, url):
        import aiomysql

        place = parts(url)
        return await aiomysql.connect(db=place.pop("database"), **place)

    async def move(self, connection, amount, name):
        async with connection.cursor() as cursor:
            await cursor.execute(MOVE, (amount, name))


class AsyncMy(AioMySql):
    async def connect(self, url):
        import asyncmy

        return await asyncmy.connect(**parts(url))


class PsycopgAsync:
    database = Database.POSTGRES
    asynchronous = True

    async def connect(self, url):
        import psycopg

        return await psycopg.AsyncConnection.connect(url)

    async def move(self, connection, amount, name):
        await connection.execute(MOVE, (amount, name))


class Asyncpg:
    database = Database.POSTGRES
    asynchronous = True

    async def connect(self, url):
        import asyncpg

        return await asyncpg.connect(url)

    async def move(self, connection, amount, name):
        await connection.execute("UPDATE account SET balance = balance + $1 WHERE name = $2", amount, name)


LIBRARIES = (PyMySql, DictCursors, MySqlClient, MySqlConnector, AioMySql, AsyncMy, Psycopg, PsycopgAsync, Asyncpg)


class XaBanks:
    """A service with two accounts, ``out`` and ``in``, each moved by an xa branch of its own URL.

    ``/out`` takes the amount away, ``/in`` adds it. A body with ``refuse`` is refused, one with
    ``commits`` ends the branch's transaction behind its back.
    """

    def __init__(self, library, url, server_url):
        self.library = library()
        self.url = url
        self.server_url = server_url
        #: While set, the database cannot be reached.
        self.unplugged = False
        #: Operations that are still to be answered with 425, by path.
        self.not_yet = {}
        #: Phase 2 answers that it is done without looking.
        self.commits_blindly = False
        self.calls = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers.get("Content-Length") or 0)
                status, text = owner.serve(self.path, self.rfile.read(size))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    def __enter__(self):
        with self.sql() as run:
            for statement in table_sql(self.library.database).split(";"):
                if text := "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip():
                    run(text)
            run("DROP TABLE IF EXISTS account")
            run("CREATE TABLE account (name varchar(10) PRIMARY KEY, balance int NOT NULL)")
            run(f"INSERT INTO account VALUES ('out', {START}), ('in', {START})")
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def at(self, path):
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def serve(self, target, body):
        """The status and the text of an answer."""
        split = urlsplit(target)
        query = dict(parse_qsl(split.query))
        self.calls.append((split.path, query["op"], query["branch_id"]))
        if self.not_yet.get((split.path, query["op"]), 0):
            self.not_yet[split.path, query["op"]] -= 1
            return 425, b"later"
        if self.commits_blindly and query["op"] != "action":
            return 200, b"{}"
        order = json.loads(body or b"{}")
        amount = order.get("amount", 0) * (-1 if split.path == "/out" else 1)
        try:
            if hasattr(self.library, "asynchronous"):
                asyncio.run(self._serve_async(query, order, amount, split.path[1:]))
            else:
                self._serve(query, order, amount, split.path[1:])
        except Failure as error:
            return 409, str(error).encode()
        except Ongoing as error:
            return 425, str(error).encode()
        except Exception as error:  # noqa: BLE001 - as a framework does
            return 500, f"{type(error).__name__}: {error}".encode()
        return 200, b"{}"

    def _serve(self, query, order, amount, name):
        def connect():
            if self.unplugged:
                raise ConnectionError("the database is unplugged")
            return self.library.connect(self.url)

        def work(connection):
            self.library.move(connection, amount, name)
            if order.get("refuse"):
                raise Failure("no money")
            if order.get("commits"):
                connection.commit()

        with Client(self.server_url) as client:
            XaBranch.from_query(query, client).call(connect, work)

    async def _serve_async(self, query, order, amount, name):
        async def connect():
            if self.unplugged:
                raise ConnectionError("the database is unplugged")
            return await self.library.connect(self.url)

        async def work(connection):
            await self.library.move(connection, amount, name)
            if order.get("refuse"):
                raise Failure("no money")

        async with AsyncClient(self.server_url) as client:
            await AsyncXaBranch.from_query(query, client).call(connect, work)

    @contextlib.contextmanager
    def sql(self):
        """Runs statements outside of every transaction; each comes back as its rows."""
        library = PyMySql() if self.library.database is Database.MYSQL else Psycopg()
        connection = library.connect(self.url)
        if library.database is Database.MYSQL:
            connection.autocommit(True)
        else:
            connection.autocommit = True

        def run(statement, parameters=None):
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return list(cursor.fetchall()) if cursor.description else []

        with contextlib.closing(connection):
            yield run

    def balances(self):
        with self.sql() as run:
            return dict(run("SELECT name, balance FROM account"))

    def prepared(self):
        """Everything that is prepared and not decided, by its name."""
        with self.sql() as run:
            if self.library.database is Database.MYSQL:
                return [row[-1] for row in run("XA RECOVER")]
            return [row[0] for row in run("SELECT gid FROM pg_prepared_xacts")]

    def rows(self, gid):
        """The barrier's rows of a transaction."""
        with self.sql() as run:
            return run(
                "SELECT branch_id, op, reason FROM dtm_barrier.barrier WHERE gid = %s ORDER BY branch_id", (gid,)
            )
