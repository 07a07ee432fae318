"""The transfers, and the worker that does them: python worker.py PORT"""

import asyncio
import os
import sys

import grpc.aio
from bank_pb2 import Order
from bank_pb2_grpc import BankStub

from reefknot import AsyncClient, AsyncWorkflow, AsyncWorkflows, Failure, workflow
from reefknot.workflows.grpc import async_service

TM = f"grpc://{os.environ.get('DTM_GRPC_SERVER', '127.0.0.1:36790')}"


async def review(amount):
    """Decides, and takes its time."""
    print(f"   worker  reviews {amount} ...", flush=True)
    await asyncio.sleep(1)
    return "fine" if amount < 50 else "too much"


@workflow("transfer")
async def transfer(w: AsyncWorkflow, bank: str, giver: str, taker: str, amount: int) -> str:
    out = w.branch().on_rollback(f"{bank}/bank.Bank/OutUndo")
    await BankStub(out.channel(bank)).Out(Order(account=giver, amount=amount))
    verdict = await w.do(lambda: review(amount), name="review")
    if verdict != "fine":
        raise Failure(f"{amount} from {giver} to {taker} is {verdict}")  # everything so far is undone
    await BankStub(w.channel(bank)).In(Order(account=taker, amount=amount))
    return f"{taker} has {amount} from {giver}"


def transfers(tm, port):
    return AsyncWorkflows(tm, [transfer], callback=f"127.0.0.1:{port}")  # where the server resumes them


async def work(port):
    async with AsyncClient(TM) as tm:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((async_service(transfers(tm, port)),))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await asyncio.to_thread(sys.stdin.read)  # until the program that started it is gone
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1])))
