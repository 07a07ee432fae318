"""The undo of a credit books though the money is spent, in every example whose accounts can be overdrawn by it."""

import contextlib
import importlib.util
import secrets

import pytest
import requests

from reefknot.barrier.statements import Database, table_sql
from reefknot.demo.gallery import examples
from reefknot.testing.services import serving
from sdk.barrier_business import administrator, run_script


def program(example, name):
    """A module of an example; several have one of this name."""
    path = examples()[example].folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{example.replace('-', '_')}_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def transfer(url):
    return program("transfer", "bank").Bank(url, {"bob": 0}).app


def workflow_http(url):
    return program("workflow-http", "bank").bank(url, {"bob": 0})


def go_and_python(url):
    account = "CREATE TABLE west (name text, balance int); INSERT INTO west VALUES ('bob', 0)"
    run_script(Database.POSTGRES, url, table_sql(Database.POSTGRES) + account)
    return program("go-and-python", "bank").bank(url)


@pytest.mark.parametrize("app", [transfer, workflow_http, go_and_python])
def test_undo_with_postgres(app, postgres):
    url = postgres.create_database(f"undo_{secrets.token_hex(4)}")
    table = "west" if app is go_and_python else "account"
    order = {"account": "bob", "amount": 30}
    with serving(app(url)) as bank:
        undone(Database.POSTGRES, url, f"{bank}/in", order, f"UPDATE {table} SET balance = 0")
    with administrator(Database.POSTGRES, url) as connection:
        assert read(connection, f"SELECT balance FROM {table}") == -30


def test_undo_with_mariadb(mariadb):
    url = mariadb.create_database(f"undo_{secrets.token_hex(4)}")
    accounts = program("flask-pymysql", "accounts")
    connect = accounts.connector(url)
    accounts.create_tables(connect, {1: 0})
    with serving(accounts.create_app(connect)) as bank:
        undone(
            Database.MYSQL,
            url,
            f"{bank}/adjust",
            {"user_id": 1, "amount": 30},
            "UPDATE user_account SET balance = 0",
        )
    with contextlib.closing(connect()) as connection:
        assert read(connection, "SELECT balance FROM user_account") == -30


def undone(kind, url, branch, order, spend):
    """Call an action, spend what it brought, and call its undo."""
    query = {"trans_type": "saga", "gid": "undo", "branch_id": "01"}
    for call, op in ((branch, "action"), (f"{branch}/undo", "compensate")):
        answer = requests.post(call, params={**query, "op": op}, json=order, timeout=30)
        assert answer.status_code == 200, answer.text
        if op == "action":
            run_script(kind, url, spend)


def read(connection, sql):
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]
