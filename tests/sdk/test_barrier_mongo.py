"""The barrier's steps in MongoDB, against scripted sessions: no MongoDB server can be started here.

The scripts follow MongoDB's manual: an upsert with ``$setOnInsert`` changes nothing where a document
matches, and what a transaction wrote is gone when it is aborted. What a real server does beyond that,
write conflicts above all, is not shown: the driver is experimental.
"""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from reefknot.barrier import AsyncBarrier, Barrier, NoLocalTransaction, Reason
from reefknot.errors import Failure

VECTORS = json.loads((Path(__file__).parent / "barrier_vectors.json").read_text("utf-8"))


class Collection:
    """Documents, and those of the open transaction."""

    def __init__(self):
        self.documents = []

    def update_one(self, filter, update, *, upsert, session):  # noqa: A002 - PyMongo's name
        assert upsert
        assert session.in_transaction
        if self.found(filter, session):
            return SimpleNamespace(upserted_id=None)
        session.written.append(filter | update["$setOnInsert"])
        return SimpleNamespace(upserted_id=len(self.documents))

    def find_one(self, filter, *, session):  # noqa: A002 - as above
        return self.found(filter, session)

    def found(self, filter, session):  # noqa: A002 - as above
        everything = self.documents + session.written
        return next((d for d in everything if filter.items() <= d.items()), None)


class Session:
    """A client session; its class pretends to be PyMongo's, by which the driver is found."""

    def __init__(self, collection):
        self.collection, self.in_transaction, self.written = collection, False, []
        self.client = {"dtm_barrier": {"barrier": collection}}

    def start_transaction(self):
        self.in_transaction, self.written = True, []

    def commit_transaction(self):
        self.collection.documents += self.written
        self.in_transaction = False

    def abort_transaction(self):
        self.in_transaction, self.written = False, []


class AsyncCollection(Collection):
    async def update_one(self, *arguments, **keywords):
        return super().update_one(*arguments, **keywords)

    async def find_one(self, *arguments, **keywords):
        return super().find_one(*arguments, **keywords)


class AsyncSession(Session):
    async def start_transaction(self):
        super().start_transaction()

    async def commit_transaction(self):
        super().commit_transaction()

    async def abort_transaction(self):
        super().abort_transaction()


for kind in (Session, AsyncSession):
    kind.__module__ = "pymongo.client_session"


def stored(collection):
    names = ("gid", "branch_id", "op", "barrier_id", "reason")
    return sorted(tuple(document[name] for name in names) for document in collection.documents)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(vector):
    collection = Collection()
    for step in vector["steps"]:
        session = Session(collection)
        barrier = Barrier(step["trans_type"], step["gid"], step["branch_id"], step["op"])
        if step.get("asked"):
            assert asked(barrier, session) is (step["expect"] == [Reason.REPEATED])
            continue
        session.start_transaction()
        said = []
        for part, _ in enumerate(step["expect"], 1):
            barrier.passes(session, part=part)
            said.append(barrier.reason)
        assert said == step["expect"]
        session.abort_transaction() if step.get("fails") else session.commit_transaction()
    assert stored(collection) == sorted(map(tuple, vector["rows"]))


def asked(barrier, session) -> bool:
    try:
        barrier.asked(session)
    except Failure:
        return False
    return True


def test_async_session():
    collection = AsyncCollection()

    async def work(_):
        return "done"

    async def run():
        session = AsyncSession(collection)
        first, second = (AsyncBarrier("saga", "g1", "01", "action") for _ in range(2))
        assert await first.call(session, work) == "done"
        assert await second.call(session, work) is None
        assert second.reason is Reason.REPEATED

    asyncio.run(run())
    assert stored(collection) == [("g1", "01", "action", "01", "action")]


def test_a_session_outside_of_a_transaction_is_refused():
    with pytest.raises(NoLocalTransaction, match="start_transaction"):
        Barrier("saga", "g1", "01", "action").passes(Session(Collection()))


def test_sessions_of_pymongo_are_known():
    """The real classes."""
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.client_session import ClientSession

    from reefknot.barrier.drivers import async_driver_of, driver_of

    for session_class, find in ((ClientSession, driver_of), (AsyncClientSession, async_driver_of)):
        session = session_class.__new__(session_class)  # it has no server to talk to
        assert find(session).library == "PyMongo"
