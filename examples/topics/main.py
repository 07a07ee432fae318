"""One message to everybody who subscribed, one of whom is down for a while: FastAPI, asyncpg and PostgreSQL.

Needs: postgres
Packages: fastapi, asyncpg, aiohttp
"""

import asyncio
import os
from urllib.parse import urlsplit

import asyncpg
from subscriber import subscriber

from reefknot import AsyncClient
from reefknot.barrier.statements import Database, table_sql
from reefknot.testing.services import serving

TOPIC = "order.placed"
mail, warehouse = subscriber("mail"), subscriber("warehouse")


async def publish(tm, number):
    """To all at the same time: one who does not answer keeps nobody else waiting."""
    return await tm.msg(concurrent=True).publish(TOPIC, {"id": number}).submit()


async def show(database, what):
    rows = await database.fetch("SELECT subscriber, array_agg(id ORDER BY id) FROM inbox GROUP BY 1 ORDER BY 1")
    print(f"{what:<32}", dict(rows))


async def tell_the_story(tm, database, warehouse_url):
    with serving(mail) as mail_url:
        await tm.subscribe(TOPIC, f"{mail_url}/placed")
        await tm.subscribe(TOPIC, f"{warehouse_url}/placed")
        first = await publish(tm, 1)
        await tm.wait(first.gid)
        await show(database, "order 1, to both")

    missed = await publish(tm, 2)
    while not await database.fetch("SELECT 1 FROM inbox WHERE id = 2"):
        await asyncio.sleep(0.05)
    await show(database, "order 2, while mail is down")

    with serving(mail, urlsplit(mail_url).port):
        await tm.wait(missed.gid)
        await show(database, "mail is back")

        await tm.unsubscribe(TOPIC, f"{mail_url}/placed")
        third = await publish(tm, 3)
        await tm.wait(third.gid)
        await show(database, "order 3, mail has unsubscribed")
    await tm.unsubscribe(TOPIC, f"{warehouse_url}/placed")


async def run():
    async with AsyncClient() as tm, asyncpg.create_pool(os.environ["POSTGRES_URL"]) as database:
        await database.execute(table_sql(Database.POSTGRES))
        await database.execute("CREATE TABLE inbox (subscriber text, id int)")
        with serving(warehouse) as warehouse_url:
            await tell_the_story(tm, database, warehouse_url)
        rows = sorted(tuple(row) for row in await database.fetch("SELECT subscriber, id FROM inbox"))
        assert rows == [("mail", 1), ("mail", 2), ("warehouse", 1), ("warehouse", 2), ("warehouse", 3)]


asyncio.run(run())
