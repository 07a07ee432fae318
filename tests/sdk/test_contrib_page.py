"""The programs on the page about frameworks work as they stand there."""

import ast
import json
import re
import secrets
from pathlib import Path
from types import SimpleNamespace

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
    accounts = "CREATE TABLE account (name varchar(40) PRIMARY KEY, balance int);"
    run_script(kind, url, f"{table_sql(kind)}{accounts} INSERT INTO account VALUES ('alice', 100), ('bob', 100)")
    return url


@pytest.fixture
def bank(postgres):
    return database(postgres, Database.POSTGRES)


def alice(kind, url):
    """What Alice has. Nothing on the page is Bob's business."""
    with administrator(kind, url) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT name, balance FROM account")
        found = dict(cursor.fetchall())
    assert found["bob"] == 100
    return found["alice"]


def order(amount):
    return {"account": "alice", "amount": amount}


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
                assert ended(server, client, f"{url}/out", order(amount), undo=f"{url}/out/undo") == expected
                assert alice(Database.POSTGRES, bank) == left
            shop.always("/refuse", FAILURE)
            saga = client.saga()
            saga.step(f"{url}/out", f"{url}/out/undo", order(30))
            saga.step(shop.url("/refuse"), "", {})
            saga.submit()
            assert server.wait_for(saga.gid, "failed") == "failed"
            assert alice(Database.POSTGRES, bank) == 70
            assert [call.path for call in shop.calls] == ["/refuse"]

            for _ in range(2):  # the customer's browser sends it again
                paid = requests.post(f"{url}/pay/17", json=order(20), timeout=30)
                assert (paid.status_code, paid.json()) == (200, "pay-17")
                assert server.wait_for("pay-17", "succeed") == "succeed"
                assert alice(Database.POSTGRES, bank) == 50
            for _ in range(2):
                refused = requests.post(f"{url}/pay/18", json=order(80), timeout=30)
                assert refused.status_code == 409, refused.text
                assert server.wait_for("pay-18", "failed") == "failed"
            assert alice(Database.POSTGRES, bank) == 50
            assert [call.body for call in shop.calls[1:]] == [b'{"account":"alice","amount":20}']


def ended(server, client, url, data, *, undo=""):
    """How a saga of one step ends."""
    saga = client.saga()
    saga.step(url, undo, data)
    saga.submit()
    return server.wait_for(saga.gid, "succeed", "failed")


def test_starlette(server, client, bank):
    names = program(STARLETTE, engine=engine(bank))
    with serving(names["app"]) as url:
        assert ended(server, client, f"{url}/out", order(30)) == "succeed"
        assert ended(server, client, f"{url}/out", order(300)) == "failed"
    assert alice(Database.POSTGRES, bank) == 70


def test_flask(server, client, mariadb):
    url = database(mariadb, Database.MYSQL)
    names = program(FLASK)
    names["connect"] = lambda: pymysql.connect(**parts(url))
    with serving(names["app"]) as service:
        assert ended(server, client, f"{service}/out", order(30)) == "succeed"
        assert ended(server, client, f"{service}/out", order(300)) == "failed"
    assert alice(Database.MYSQL, url) == 70


def test_grpc(server, bank):
    names = program(GRPC, dsn=("postgresql://bank@localhost/bank", bank))
    from google.protobuf.empty_pb2 import Empty

    # JSON stands in for the message that a .proto file of the reader's declares.
    out = grpc.unary_unary_rpc_method_handler(
        names["Bank"]().Out, lambda body: SimpleNamespace(**json.loads(body)), Empty.SerializeToString
    )
    service = names["server"]
    service.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bank.Bank", {"Out": out}),))
    address = f"127.0.0.1:{service.add_insecure_port('127.0.0.1:0')}"
    service.start()
    with Client(f"grpc://{server.grpc_address}") as client:
        for amount, expected in ((30, "succeed"), (300, "failed")):
            body = json.dumps(order(amount)).encode()
            assert ended(server, client, f"{address}/bank.Bank/Out", body) == expected
    service.stop(None).wait()
    assert alice(Database.POSTGRES, bank) == 70


def test_the_rest_is_python():
    """Django's parts are of several files, and run in test_contrib_web.py in this form."""
    ast.parse(DJANGO)
    assert "request.barrier.passes()" in DJANGO
    names = {}
    exec(AMBIENT, names)
    assert (names["now"].gid, names["headers"]) == ("", {})
