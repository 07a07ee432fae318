"""A subscriber: FastAPI and asyncpg. It keeps what it is told, once."""

import os
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI

from reefknot import AsyncBarrier
from reefknot.contrib.fastapi import branch, install

Branch = Annotated[AsyncBarrier, Depends(branch)]


def subscriber(name):
    @asynccontextmanager
    async def opening(app):
        async with asyncpg.create_pool(os.environ["POSTGRES_URL"], min_size=1) as app.state.pool:
            yield

    app = FastAPI(lifespan=opening)
    install(app)

    @app.post("/placed")
    async def placed(order: dict, barrier: Branch):
        async with app.state.pool.acquire() as connection, connection.transaction():
            if await barrier.passes(connection):
                await connection.execute("INSERT INTO inbox VALUES ($1, $2)", name, order["id"])

    return app
