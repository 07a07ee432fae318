"""MongoDB through PyMongo: a session inside a transaction. Experimental: no suite runs it on a real server.

The table ``a.b`` is the collection ``b`` of the database ``a``; DTM's clients give it a unique index on
gid, branch_id, op and barrier_id.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from reefknot.barrier.core import Row
from reefknot.barrier.drivers.base import AsyncDriver, Connection, Driver
from reefknot.barrier.statements import Database

_KEY = ("gid", "branch_id", "op", "barrier_id")


class _Mongo(Connection):
    library = "PyMongo"
    remedy = "ask it inside: with session.start_transaction()"

    @property
    def database(self) -> Database:
        return Database.MONGO

    def transactional(self) -> bool:
        return bool(self.connection.in_transaction)

    def inside(self) -> bool:
        return self.transactional()

    def address(self, table: str) -> object:
        client: object = self.connection.client
        return client

    def collection(self, table: str) -> Any:
        """The collection of a table."""
        database, _, name = table.rpartition(".")
        return self.connection.client[database or "dtm_barrier"][name]

    def upsert(self, row: Row) -> dict[str, Any]:
        """The arguments that insert a document unless one has its key.

        A duplicate key would abort the whole transaction, so nothing is ever inserted twice.
        """
        return {
            "filter": dict(zip(_KEY, row.key, strict=True)),
            "update": {"$setOnInsert": msgspec.structs.asdict(row)},
            "upsert": True,
            "session": self.connection,
        }


def _document(found: Any) -> tuple[str, ...] | None:
    return None if found is None else tuple(str(found[name]) for name in (*_KEY, "reason"))


class MongoDriver(_Mongo, Driver):
    """``pymongo.client_session.ClientSession``."""

    def insert(self, row: Row, table: str) -> bool:
        return self.collection(table).update_one(**self.upsert(row)).upserted_id is not None

    def read(self, row: Row, table: str) -> tuple[str, ...] | None:
        return _document(self.collection(table).find_one(self.upsert(row)["filter"], session=self.connection))

    def start(self) -> None:
        self.connection.start_transaction()

    def commit(self) -> None:
        self.connection.commit_transaction()

    def rollback(self) -> None:
        self.connection.abort_transaction()


class AsyncMongoDriver(_Mongo, AsyncDriver):
    """``pymongo.asynchronous.client_session.AsyncClientSession``."""

    async def insert(self, row: Row, table: str) -> bool:
        return (await self.collection(table).update_one(**self.upsert(row))).upserted_id is not None

    async def read(self, row: Row, table: str) -> tuple[str, ...] | None:
        return _document(await self.collection(table).find_one(self.upsert(row)["filter"], session=self.connection))

    async def start(self) -> None:
        await self.connection.start_transaction()

    async def commit(self) -> None:
        await self.connection.commit_transaction()

    async def rollback(self) -> None:
        await self.connection.abort_transaction()


def driver(session: Any) -> Driver | None:
    """The driver of a sync session."""
    return MongoDriver(session) if _is_session(session) and not _is_async(session) else None


def async_driver(session: Any) -> AsyncDriver | None:
    """The driver of an async session."""
    return AsyncMongoDriver(session) if _is_session(session) and _is_async(session) else None


def _is_session(session: Any) -> bool:
    return hasattr(session, "start_transaction")


def _is_async(session: Any) -> bool:
    return inspect.iscoroutinefunction(session.commit_transaction)
