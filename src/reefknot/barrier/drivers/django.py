"""Django's connections: ``django.db.connection`` and those of ``django.db.connections``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections, transaction
from django.utils.connection import ConnectionProxy

from reefknot.barrier.drivers.base import AsyncDriver, Driver, SqlDriver, plain
from reefknot.barrier.statements import Database, Placeholder
from reefknot.errors import Invalid

_DATABASES: Mapping[str, Database] = {
    "sqlite": Database.SQLITE,
    "postgresql": Database.POSTGRES,
    "mysql": Database.MYSQL,
}


class DjangoDriver(SqlDriver):
    """A connection of Django."""

    library = "Django"
    remedy = "ask it inside: with transaction.atomic()"
    placeholder = Placeholder.FORMAT

    @property
    def database(self) -> Database:
        vendor = self.connection.vendor
        if vendor not in _DATABASES:
            raise Invalid("connection", f"is one to {vendor}", f"the barrier knows {', '.join(_DATABASES)}")
        return _DATABASES[vendor]

    def transactional(self) -> bool:
        return bool(self.connection.in_atomic_block) or not self.connection.get_autocommit()

    def inside(self) -> bool:
        return self.transactional()

    def address(self, table: str) -> object:
        return self.connection.alias

    def execute(self, statement: str, parameters: Sequence[str]) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return int(cursor.rowcount)

    def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return plain(cursor.fetchone())

    # What an atomic block has to remember stands in the connection, so another object may end it.

    def start(self) -> None:
        transaction.atomic(using=self.connection.alias).__enter__()

    def commit(self) -> None:
        transaction.atomic(using=self.connection.alias).__exit__(None, None, None)

    def rollback(self) -> None:
        if self.connection.in_atomic_block:
            self.connection.needs_rollback = True
            transaction.atomic(using=self.connection.alias).__exit__(None, None, None)


def driver(connection: Any) -> Driver | None:
    """The driver of a connection."""
    if isinstance(connection, ConnectionProxy):
        connection = connections[connection.alias]
    return DjangoDriver(connection) if hasattr(connection, "in_atomic_block") else None


def async_driver(_: Any) -> AsyncDriver | None:
    """Django has no async connections; ``sync_to_async`` calls the sync barrier."""
    return None
