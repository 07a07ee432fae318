"""One ledger in each framework: the same paths, answers and table, each written as its users write it.

/add /add/undo      one effect for each operation, behind the barrier
/refuse             writes an effect, then refuses
/review             not finished until /review/done was called
/break              an exception of the handler's own
/forward            sends a message while it is served
/seen               the ambient transactions of the calls so far
/asked              the check-back
"""

import contextlib
import sqlite3
from typing import Annotated

from reefknot import AsyncBarrier, AsyncClient, Barrier, Client, Failure, Ongoing
from reefknot.barrier.statements import Database, table_sql
from reefknot.client import ambient
from reefknot.workflows import Workflow, workflow

EFFECT = "INSERT INTO effect (gid, branch_id, op) VALUES (?, ?, ?)"
RETRY_AFTER = 2.5


def create(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + table_sql(Database.SQLITE))
        connection.execute("CREATE TABLE effect (gid varchar(128), branch_id varchar(128), op varchar(45))")


class Ledger:
    """What the apps share: where the database is, and what they noticed."""

    def __init__(self, path, server_url, receiver):
        self.path, self.server_url, self.receiver = str(path), server_url, receiver
        self.reviewed = False
        self.seen = []

    def connect(self):
        return sqlite3.connect(self.path, timeout=30)

    def effects(self, gid):
        """What was done for a transaction, as ``branch op``."""
        statement = "SELECT branch_id || ' ' || op FROM effect WHERE gid = ? ORDER BY rowid"
        with contextlib.closing(self.connect()) as connection:
            return [effect for (effect,) in connection.execute(statement, (gid,))]

    def note(self):
        now = ambient.current()
        self.seen.append([now.gid, now.trans_type, now.branch_id, now.op, now.trace.get("traceparent", "")])

    def check_review(self):
        if not self.reviewed:
            raise Ongoing("waiting for review", retry_after=RETRY_AFTER)

    def write(self, barrier, *, refuse=False):
        """The work with the sync barrier."""
        branch = barrier.branch
        with contextlib.closing(self.connect()) as connection, connection:
            if barrier.passes(connection):
                connection.execute(EFFECT, (branch.gid, branch.branch_id, branch.op))
                if refuse:
                    raise Failure("not enough money")

    def forward(self):
        with Client(self.server_url) as client:
            client.msg().send(self.receiver, {}).submit()


@workflow("greet")
def greet(w: Workflow, name: str) -> str:
    """A workflow with a step, or with a refusal."""
    if name == "nobody":
        raise Failure("there is nobody")
    return w.do(lambda: f"hello {name}")


def fastapi_app(ledger, **options):
    """Async, with SQLAlchemy."""
    from fastapi import Depends, FastAPI
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from reefknot.contrib.fastapi import asked, branch, install

    # Its threads end with each connection; a pool would keep one until the event loop is gone.
    engine = create_async_engine(f"sqlite+aiosqlite:///{ledger.path}", poolclass=NullPool)
    app = FastAPI()
    install(app, **options)
    app.include_router(asked(engine))

    @app.post("/add")
    @app.post("/add/undo")
    async def add(barrier: Annotated[AsyncBarrier, Depends(branch)], *, refuse: bool = False):
        ledger.note()
        named = barrier.branch
        async with engine.begin() as connection:
            if await barrier.passes(connection):
                values = {"gid": named.gid, "branch_id": named.branch_id, "op": named.op}
                await connection.execute(text("INSERT INTO effect VALUES (:gid, :branch_id, :op)"), values)
                if refuse:
                    raise Failure("not enough money")

    @app.post("/refuse")
    async def refuse(barrier: Annotated[AsyncBarrier, Depends(branch)]):
        await add(barrier, refuse=True)

    @app.post("/review")
    async def review(barrier: Annotated[AsyncBarrier, Depends(branch)]):
        ledger.check_review()
        await add(barrier)

    @app.post("/review/done")
    async def done():
        ledger.reviewed = True

    @app.post("/break")
    async def broken():
        raise ValueError("no such ledger")

    @app.post("/forward")
    async def forward(barrier: Annotated[AsyncBarrier, Depends(branch)]):
        async with AsyncClient(ledger.server_url) as client:
            await client.msg().send(ledger.receiver, {}).submit()

    @app.get("/seen")
    async def seen():
        return ledger.seen

    return app


def starlette_app(ledger, **options):
    """Handlers that are plain functions, which Starlette runs in threads, with sqlite3."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from reefknot.contrib.starlette import asked, install, sync_branch

    def add(request):
        ledger.note()
        ledger.write(sync_branch(request))
        return Response()

    def refuse(request):
        ledger.write(sync_branch(request), refuse=True)

    def review(request):
        ledger.check_review()
        return add(request)

    def done(request):
        ledger.reviewed = True
        return Response()

    def broken(request):
        raise ValueError("no such ledger")

    def forward(request):
        ledger.forward()
        return Response()

    def seen(request):
        return JSONResponse(ledger.seen)

    posts = {
        "/add": add,
        "/add/undo": add,
        "/refuse": refuse,
        "/review": review,
        "/review/done": done,
        "/break": broken,
        "/forward": forward,
    }
    routes = [Route(path, handler, methods=["POST"]) for path, handler in posts.items()]
    app = Starlette(routes=[*routes, Route("/seen", seen), asked(ledger.connect)])
    install(app, **options)
    return app


def flask_app(ledger, **options):
    from flask import Flask

    from reefknot.contrib.flask import asked, branch, install

    app = Flask(__name__)
    install(app, **options)
    app.register_blueprint(asked(ledger.connect))

    @app.post("/add")
    @app.post("/add/undo")
    def add():
        ledger.note()
        ledger.write(branch())
        return {}

    @app.post("/refuse")
    def refuse():
        ledger.write(branch(), refuse=True)

    @app.post("/review")
    def review():
        ledger.check_review()
        return add()

    @app.post("/review/done")
    def done():
        ledger.reviewed = True
        return {}

    @app.post("/break")
    def broken():
        raise ValueError("no such ledger")

    @app.post("/forward")
    def forward():
        ledger.forward()
        return {}

    @app.get("/seen")
    def seen():
        return ledger.seen

    return app


APPS = {"fastapi": fastapi_app, "starlette": starlette_app, "flask": flask_app}


def message_barrier(gid):
    return Barrier("msg", gid, "00", "msg")
