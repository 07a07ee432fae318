"""A bank: grpc.aio and asyncpg. It tells what it is called for and what its barrier says."""

# ruff: noqa: N802 - the methods have the names that they have in bank.proto
import grpc.aio
from bank_pb2_grpc import BankServicer, add_BankServicer_to_server
from google.protobuf.empty_pb2 import Empty

from reefknot import Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.grpc import AsyncBranchInterceptor, branch

CHANGE = "UPDATE account SET balance = balance + $1 WHERE name = $2 AND balance + $1 >= 0 RETURNING balance"


class Bank(BankServicer):
    def __init__(self, pool):
        self.pool = pool

    async def Out(self, order, context):
        return await self.move("Out", order.account, -order.amount, branch(context))

    async def OutUndo(self, order, context):
        return await self.move("OutUndo", order.account, +order.amount, branch(context))

    async def In(self, order, context):
        return await self.move("In", order.account, +order.amount, branch(context))

    async def move(self, method, account, amount, barrier):
        async with self.pool.acquire() as connection, connection.transaction():
            if await barrier.passes(connection):
                balance = await connection.fetchval(CHANGE, amount, account)
                if balance is None:
                    raise Failure(f"{account} cannot be moved by {amount}")
        print(f"   bank    {method} {account} {amount:+}: {barrier.reason}")
        return Empty()


async def serve(pool, balances):
    await pool.execute(table_sql(Database.POSTGRES) + "CREATE TABLE account (name text PRIMARY KEY, balance int)")
    await pool.executemany("INSERT INTO account VALUES ($1, $2)", list(balances.items()))
    server = grpc.aio.server(interceptors=[AsyncBranchInterceptor()])  # Failure becomes ABORTED
    add_BankServicer_to_server(Bank(pool), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"
