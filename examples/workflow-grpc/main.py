"""A function that survives kill -9: a transfer as a workflow over gRPC (grpc.aio, asyncpg, PostgreSQL).

Needs: postgres, grpc
Packages: grpc, asyncpg
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

import asyncpg
from worker import TM, transfer, transfers

from bank import serve
from reefknot import AsyncClient, RolledBack
from reefknot.testing.server import free_port


async def main():
    port = free_port()
    command = (sys.executable, "worker.py", str(port))
    async with AsyncClient(TM) as tm, asyncpg.create_pool(os.environ["POSTGRES_URL"]) as pool:
        server, bank = await serve(pool, {"alice": 100, "bob": 100})
        flows = transfers(tm, port)

        async def show(what):
            balances = dict(await pool.fetch("SELECT name, balance FROM account ORDER BY name"))
            print(what, balances)
            return balances

        await show("30 from Alice to Bob")
        worker = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        gid = await flows.start(transfer, bank, "alice", "bob", 30)  # stored; the server calls a worker
        print((await worker.stdout.readline()).decode(), end="")  # it reviews
        worker.kill()
        await show("   the worker is killed (SIGKILL)")

        worker = await asyncio.create_subprocess_exec(*command, stdin=PIPE)
        await tm.wait(gid)
        # The same gid again: nothing is done, and here is what it returned.
        await show("   " + await flows.execution(gid).run(transfer, bank, "alice", "bob", 30))

        print("60 from Alice to Bob")
        try:
            # Here, not in the worker, which is called only if this program does nothing for 10 s.
            await flows.execution(retry_every=10).run(transfer, bank, "alice", "bob", 60)
        except RolledBack as error:
            print("   rolled back:", error.reason)
        assert await show("at the end") == {"alice": 70, "bob": 130}
        worker.kill()
        await server.stop(1)


asyncio.run(main())
