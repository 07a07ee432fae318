"""One bank: an account table, and two calls that move money, each with its undo."""

from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from reefknot import AsyncBarrier, Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.fastapi import branch, install

Branch = Annotated[AsyncBarrier, Depends(branch)]


class Order(BaseModel):
    account: str
    amount: int


class Bank:
    def __init__(self, url: str, accounts: dict[str, int]) -> None:
        self.engine = create_async_engine(url.replace("postgres://", "postgresql+asyncpg://"))
        self.accounts = accounts
        self.app = FastAPI(lifespan=self.opening)
        install(self.app)  # Failure becomes 409, Ongoing 425
        self.app.post("/out")(self.out)
        self.app.post("/out/undo")(self.out_undo)
        self.app.post("/in")(self.in_)
        self.app.post("/in/undo")(self.in_undo)
        self.app.get("/balances")(self.balances)

    @asynccontextmanager
    async def opening(self, app):
        async with self.engine.begin() as connection:
            for statement in filter(str.strip, table_sql(Database.POSTGRES).split(";")):
                await connection.execute(text(statement))
            await connection.execute(text("CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, balance int)"))
            for name, balance in self.accounts.items():
                await connection.execute(text("INSERT INTO account VALUES (:n, :b)"), {"n": name, "b": balance})
        yield
        await self.engine.dispose()

    async def out(self, order: Order, barrier: Branch):
        await self.move(barrier, order.account, -order.amount)

    async def out_undo(self, order: Order, barrier: Branch):
        await self.move(barrier, order.account, +order.amount, undo=True)

    async def in_(self, order: Order, barrier: Branch):
        await self.move(barrier, order.account, +order.amount)

    async def in_undo(self, order: Order, barrier: Branch):
        await self.move(barrier, order.account, -order.amount, undo=True)

    async def move(self, barrier, account, amount, *, undo=False):
        """The barrier's row and the booking, in one transaction of ours; an undo must not fail for lack of money."""
        async with self.engine.begin() as connection:
            if not await barrier.passes(connection):
                return  # repeated, nothing to undo, or too late: all is well as it is
            booked = await connection.execute(
                text("UPDATE account SET balance = balance + :a WHERE name = :n AND (:u OR balance + :a >= 0)"),
                {"a": amount, "n": account, "u": undo},
            )
            if not booked.rowcount:
                raise Failure(f"{account} cannot be moved by {amount}")

    async def balances(self):
        async with self.engine.connect() as connection:
            return dict((await connection.execute(text("SELECT name, balance FROM account ORDER BY name"))).all())
