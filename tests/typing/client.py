"""The client as a user writes it, in both faces. Checked by pyright, never run."""

import sqlite3
from collections.abc import Mapping
from datetime import timedelta
from typing import assert_type

from reefknot import AsyncClient, Client, Failure, Ongoing, OutcomeUnknown, RolledBack
from reefknot.client import Answer, Outcome, Request, Response, Step, Transaction, Transport


def transfer(client: Client, amount: int) -> str:
    with client.saga(wait=True, concurrent=True, retry_every=15, headers={"authorization": "t"}) as saga:
        pay = saga.step("http://bank/out", "http://bank/out/undo", {"amount": amount})
        stock = saga.step("http://shop/take", "http://shop/back", {"n": 1}, after=pay)
        saga.step("http://shop/ship", after=[pay, stock])
    assert_type(pay, Step)
    assert_type(saga.outcome, Outcome | None)
    return saga.gid


def built(client: Client) -> Outcome:
    outcome = client.saga("gid", timeout=timedelta(minutes=1)).add("http://a", "http://b", b"raw").submit()
    return assert_type(outcome, Outcome)


def tried(client: Client, query: Mapping[str, str]) -> int:
    with client.tcc(timeout=20) as tcc:
        answer = tcc.try_("http://hold", confirm="http://take", cancel="http://free", data={"n": 1})
        assert_type(answer, Answer)
    client.tcc_from(query).try_("http://hold", confirm="http://take", cancel="http://free")
    with client.xa() as xa:
        xa.call("http://out", {"amount": 30})
    return answer.status


def sent(client: Client, connection: sqlite3.Connection) -> None:
    msg = client.msg(delay=timedelta(minutes=30)).send("http://in", {"n": 1}).publish("topic", [1, 2])
    with msg.committing(connection, ask="http://me/asked") as tx:
        assert_type(tx, sqlite3.Connection)
        tx.execute("UPDATE account SET balance = balance - 30")
    rows = client.msg().do_and_submit("http://me/asked", lambda barrier: barrier.call(connection, work))
    assert_type(rows, int | None)


def work(connection: sqlite3.Connection) -> int:
    return connection.execute("UPDATE account SET balance = balance - 30").rowcount


def looked(client: Client, gid: str) -> str:
    found = client.get(gid)
    assert_type(found, Transaction | None)
    page = client.query(status="submitted", limit=10)
    ages = [one.created_at.isoformat() for one in client.query(position=page.position).transactions if one.created_at]
    assert_type(ages, list[str])
    try:
        return client.wait(gid, timeout=timedelta(seconds=5)).status
    except RolledBack as error:
        return error.reason
    except Ongoing as error:
        return f"{error.note} {error.retry_after}"
    except OutcomeUnknown as error:
        return error.gid + error.url + error.advice


class MyTransport:
    """A transport of one's own needs no base class."""

    def send(self, request: Request) -> Response:
        return Response(200, request.body) if request.method == "POST" else Response(404)


transport: Transport = MyTransport()
configured = Client("http://127.0.0.1:36789", headers={"x": "y"}, timeout=3, transport=transport)


async def asynchronous(gid: str) -> Transaction:
    async with AsyncClient("grpc://127.0.0.1:36790") as client:
        async with client.saga() as saga:
            saga.step("bank:9000/bank.Bank/Out", "bank:9000/bank.Bank/Undo", b"")
        async with client.tcc() as tcc:
            answer = await tcc.try_("http://a", confirm="http://b", cancel="http://c")
            if answer.json() is None:
                raise Failure("nothing came back")
        outcome = await client.msg().send("http://in").submit()
        assert_type(outcome, Outcome)
        return await client.wait(outcome.gid)
