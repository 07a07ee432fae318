"""The accounts that the programs under test move money between, counted in the database itself."""

from __future__ import annotations

import secrets
from typing import NamedTuple
from urllib.parse import urlsplit

import pymysql

#: What every account starts with.
START = 100
AMOUNT = 30


class Pair(NamedTuple):
    """Two accounts of one test; the second does not exist where a transfer shall be refused."""

    giver: str
    taker: str


class MariaDbBank:
    """Accounts in a database of their own on a MariaDB server.

    Args:
        url: the database, ``mysql://user:password@host:port/name``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.address = f"{parts.hostname}:{parts.port}"
        self.database = parts.path[1:]
        self.user, self.password = parts.username, parts.password
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
        self.execute(
            "CREATE TABLE barrier (id bigint AUTO_INCREMENT PRIMARY KEY, trans_type varchar(45) DEFAULT '',"
            " gid varchar(128) DEFAULT '', branch_id varchar(128) DEFAULT '', op varchar(45) DEFAULT '',"
            " barrier_id varchar(45) DEFAULT '', reason varchar(45) DEFAULT '', create_time datetime DEFAULT now(),"
            " update_time datetime DEFAULT now(), UNIQUE (gid, branch_id, op, barrier_id))"
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def execute(self, statement: str, *arguments: object) -> list[tuple]:
        """Run a statement; its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def accounts(self, *, taker_exists: bool = True) -> Pair:
        """Open the accounts of one test."""
        pair = Pair(f"giver-{secrets.token_hex(6)}", f"taker-{secrets.token_hex(6)}")
        for name in pair if taker_exists else pair[:1]:
            self.execute("INSERT INTO account (name, balance) VALUES (%s, %s)", name, START)
        return pair

    def balances(self, pair: Pair) -> list[tuple[int, int]]:
        """Balance and expected money of the accounts that exist, giver first."""
        rows = {row[0]: row[1:] for row in self.execute("SELECT name, balance, expected FROM account")}
        return [rows[name] for name in pair if name in rows]

    def barriers(self, gid: str) -> list[tuple[str, str, str]]:
        """Branch id, op and reason of the barrier's rows of one transaction, in order."""
        return self.execute("SELECT branch_id, op, reason FROM barrier WHERE gid = %s ORDER BY id", gid)
