"""The accounts that the programs under test move money between, counted in the databases themselves."""

from __future__ import annotations

import asyncio
import secrets
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import asyncpg
import pymysql

#: What every account starts with, and what is moved.
START, AMOUNT = 100, 30

_BARRIER_COLUMNS = (
    "trans_type varchar(45) DEFAULT '', gid varchar(128) DEFAULT '', branch_id varchar(128) DEFAULT '',"
    " op varchar(45) DEFAULT '', barrier_id varchar(45) DEFAULT '', reason varchar(45) DEFAULT ''"
)


class Money(NamedTuple):
    """What an account has, and what is on its way to it."""

    balance: int
    expected: int = 0


class Bank(Protocol):
    """Accounts in one kind of database."""

    kind: str
    url: str

    def open(self, account: str) -> None:
        """Open an account."""

    def money(self, account: str) -> Money | None:
        """What is in an account; None if it does not exist."""

    def unfinished(self) -> list[str]:
        """XA transactions that were prepared and never ended."""


class MariaDbBank:
    """Accounts in a database of their own on a MariaDB server.

    Args:
        url: the database, ``mysql://user:password@host:port/name``.
        barrier: the barrier's table, which is created.
    """

    kind = "mariadb"

    def __init__(self, url: str, barrier: str = "barrier") -> None:
        parts = urlsplit(url)
        self.url = url
        self.address = f"{parts.hostname}:{parts.port}"
        self.database = parts.path[1:]
        self.user, self.password = parts.username, parts.password
        self._barrier = barrier
        self._connection = pymysql.connect(
            host=parts.hostname,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            database=self.database,
            autocommit=True,
        )
        self.execute(
            "CREATE TABLE account (name varchar(64) PRIMARY KEY, balance bigint NOT NULL,"
            " expected bigint NOT NULL DEFAULT 0)"
        )
        if "." in barrier:
            self.execute(f"CREATE DATABASE IF NOT EXISTS {barrier.partition('.')[0]}")
        self.execute(
            f"CREATE TABLE IF NOT EXISTS {barrier} (id bigint AUTO_INCREMENT PRIMARY KEY, {_BARRIER_COLUMNS},"
            " create_time datetime DEFAULT now(), update_time datetime DEFAULT now(),"
            " UNIQUE (gid, branch_id, op, barrier_id))"
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def execute(self, statement: str, *arguments: object) -> list[tuple]:
        """Run a statement; its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def open(self, account: str) -> None:
        self.execute("INSERT INTO account (name, balance) VALUES (%s, %s)", account, START)

    def money(self, account: str) -> Money | None:
        rows = self.execute("SELECT balance, expected FROM account WHERE name = %s", account)
        return Money(*rows[0]) if rows else None

    def unfinished(self) -> list[str]:
        return [row[3] for row in self.execute("XA RECOVER")]

    def barriers(self, gid: str) -> list[tuple[str, str, str]]:
        """Branch id, op and reason of the barrier's rows of one transaction, in order."""
        found = self.execute(f"SELECT branch_id, op, reason FROM {self._barrier} WHERE gid = %s ORDER BY id", gid)
        return [tuple(row) for row in found]


class PostgresBank:
    """Accounts in the database ``test`` of a PostgreSQL server that allows prepared transactions."""

    kind = "postgres"

    def __init__(self, url: str) -> None:
        self.url = url
        self._execute("CREATE TABLE account (name text PRIMARY KEY, balance bigint, expected bigint DEFAULT 0)")
        self._execute("CREATE SCHEMA dtm_barrier")
        self._execute(
            f"CREATE TABLE dtm_barrier.barrier (id bigserial PRIMARY KEY, {_BARRIER_COLUMNS},"
            " create_time timestamptz(0) DEFAULT now(), update_time timestamptz(0) DEFAULT now(),"
            " CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id))"
        )

    def open(self, account: str) -> None:
        self._execute("INSERT INTO account (name, balance) VALUES ($1, $2)", account, START)

    def money(self, account: str) -> Money | None:
        rows = self._execute("SELECT balance, expected FROM account WHERE name = $1", account)
        return Money(*rows[0]) if rows else None

    def unfinished(self) -> list[str]:
        return [row[0] for row in self._execute("SELECT gid FROM pg_prepared_xacts")]

    def _execute(self, statement: str, *arguments: object) -> list[tuple]:
        async def run() -> list[tuple]:
            connection = await asyncpg.connect(self.url)
            try:
                return [tuple(row) for row in await connection.fetch(statement, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(run())


class RedisBank:
    """Accounts in a Redis."""

    kind = "redis"

    def __init__(self, server) -> None:
        self._server, self.url = server, server.url

    def open(self, account: str) -> None:
        self._server.command("SET", account, START)

    def money(self, account: str) -> Money | None:
        found = self._server.command("GET", account)
        return None if found is None else Money(int(found))

    def unfinished(self) -> list[str]:
        return []


class Pair:
    """Two accounts of one test.

    Args:
        giver: the bank of the account that gives.
        taker: the bank of the account that takes.
        taker_exists: False where the transfer shall be refused.
    """

    def __init__(self, giver: Bank, taker: Bank, *, taker_exists: bool = True) -> None:
        self.giver, self.taker = giver, taker
        self.giving, self.taking = f"giver-{secrets.token_hex(6)}", f"taker-{secrets.token_hex(6)}"
        giver.open(self.giving)
        if taker_exists:
            taker.open(self.taking)

    def query(self) -> dict[str, str]:
        """The accounts as a case of a program is told them."""
        return {
            "from": self.giving,
            "to": self.taking,
            "from_store": self.giver.kind,
            "to_store": self.taker.kind,
        }

    def money(self) -> list[Money]:
        """What the accounts that exist have, giver first."""
        both = [self.giver.money(self.giving), self.taker.money(self.taking)]
        return [money for money in both if money is not None]


MOVED = [Money(START - AMOUNT), Money(START + AMOUNT)]
UNMOVED = [Money(START), Money(START)]
#: As far as there are accounts.
REFUSED = [Money(START)]
