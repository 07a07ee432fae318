"""The programs on the page about frameworks work as they stand there."""

import ast
import re
import secrets
from pathlib import Path

import grpc
import pymysql
import pytest
import requests

from reefknot import Client
from reefknot.barrier.statements import Database, table_sql
from reefknot.testing.participant import FAILURE, Participant
from reefknot.testing.server import LocalServer, free_port
from reefknot.testing.services import serving
from sdk.barrier_business import administrator, run_script
from sdk.barrier_connections import parts

PAGE = Path(__file__).parents[2] / "docs" / "sdk" / "frameworks.md"
FASTAPI, STARLETTE, FLASK, DJANGO, GRPC, AMBIENT = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.fixture(scope="module")
def server():
    with LocalServer(grpc=True) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


def database(server, kind):
    url = server.create_database(f"page_{secrets.token_hex(4)}")
    run_script(kind, url, table_sql(kind) + "CREATE TABLE account (balance int); INSERT INTO account VALUES (100)")
    return url


@pytest.fixture
def bank(postgres):
    return database(postgres, Database.POSTGRES)


def balance(kind, url):
    with administrator(kind, url) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT balance FROM account")
        return cursor.fetchone()[0]


def program(text, **replaced):
    """Run a program of the page with other addresses; its names."""
    for old, new in replaced.values():
        assert old in text
        text = text.replace(old, new)
    names = {"__name__": "service"}
    exec(compile(text, str(PAGE), "exec"), names)
    return names


def engine(url):
    return "postgresql+asyncpg://bank@localhost/bank", f"postgresql+asyncpg://{url.partition('://')[2]}"


def test_fastapi(server, client, bank):
    port = free_port()
    with Participant() as shop:
        names = program(
            FASTAPI,
            engine=engine(bank),
            dtm=("http://127.0.0.1:36789", server.url),
            shop=("http://shop/paid", shop.url("/paid")),
            ask=("http://bank/asked", f"http://127.0.0.1:{port}/asked"),
        )
        with serving(names["app"], port) as url:
            for amount, expected, left in ((30, "succeed", 70), (300, "failed", 70)):
                saga = client.saga()
                saga.step(f"{url}/out", f"{url}/out/undo", {"amount": amount})
                saga.submit()
                assert server.wait_for(saga.gid, expected) == expected
                assert balance(Database.POSTGRES, bank) == left
            shop.always("/refuse", FAILURE)
            saga = client.saga()
            saga.step(f"{url}/out", f"{url}/out/undo", {"amount": 30})
            saga.step(shop.url("/refuse"), "", {})
            saga.submit()
            assert server.wait_for(saga.gid, "failed") == "failed"
            assert balance(Database.POSTGRES, bank) == 70
            assert [call.path for call in shop.calls] == ["/refuse"]
            paid = requests.post(f"{url}/pay", json={"amount": 20}, timeout=30).json()
            assert server.wait_for(paid, "succeed") == "succeed"
            assert (balance(Database.POSTGRES, bank), shop.calls[-1].body) == (50, b'{"amount":20}')


def test_starlette(server, client, bank):
    names = program(STARLETTE, engine=engine(bank))
    with serving(names["app"]) as url:
        with client.saga(wait=True) as saga:
            saga.step(f"{url}/out", "", {"amount": 30})
        assert saga.outcome.status == "succeed"
    assert balance(Database.POSTGRES, bank) == 70


def test_flask(server, client, mariadb):
    url = database(mariadb, Database.MYSQL)
    names = program(FLASK)
    names["connect"] = lambda: pymysql.connect(**parts(url))
    with serving(names["app"]) as service:
        for amount, expected in ((30, "succeed"), (300, "failed")):
            saga = client.saga()
            saga.step(f"{service}/out", "", {"amount": amount})
            saga.submit()
            assert server.wait_for(saga.gid, expected) == expected
    assert balance(Database.MYSQL, url) == 70


def test_grpc(server, bank):
    names = program(GRPC, dsn=("postgresql://bank@localhost/bank", bank))
    from google.protobuf.empty_pb2 import Empty

    out = grpc.unary_unary_rpc_method_handler(names["Bank"]().Out, Empty.FromString, Empty.SerializeToString)
    service = names["server"]
    service.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bank.Bank", {"Out": out}),))
    address = f"127.0.0.1:{service.add_insecure_port('127.0.0.1:0')}"
    service.start()
    with Client(f"grpc://{server.grpc_address}") as client, client.saga(wait=True) as saga:
        saga.step(f"{address}/bank.Bank/Out", "", b"")
    service.stop(None).wait()
    assert balance(Database.POSTGRES, bank) == 70


def test_the_rest_is_python():
    """Django's parts are of several files, and run in test_contrib_web.py in this form."""
    ast.parse(DJANGO)
    assert "request.barrier.passes()" in DJANGO
    names = {}
    exec(AMBIENT, names)
    assert (names["now"].gid, names["headers"]) == ("", {})
