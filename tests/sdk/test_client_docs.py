"""The page about the client says what is true: its snippets are run, one after another, in one program."""

import asyncio
import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from reefknot import Barrier, Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.testing.participant import FAILURE, OK, Participant
from reefknot.testing.server import LocalServer

PAGE = Path(__file__).parents[2] / "docs/sdk/client.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def surroundings(tmp_path):
    """What the page takes for granted: a server, a bank, a shop with a database."""
    database = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript(table_sql(Database.SQLITE))
        connection.executescript(
            "CREATE TABLE account (id integer, balance integer); INSERT INTO account VALUES (1, 100)"
        )

    def xa(call):
        url = bank.url(call.path)
        fields = {"gid": call.gid, "branch_id": call.branch_id, "trans_type": "xa", "url": url}
        if call.op == "action":
            server.post("registerBranch", fields)

    def asked(call):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            try:
                Barrier(call.mode, call.gid, call.branch_id, call.op).asked(connection)
            except Failure:
                return FAILURE
        return OK

    with LocalServer() as server, Participant() as bank, Participant() as shop:
        bank.business(lambda call: xa(call) if call.mode == "xa" else None)
        bank.always("/closed", FAILURE)
        shop.on("/asked", asked)
        base = server.url.removesuffix("/api/dtmsvr")
        yield {"server": base, "bank": bank.url(""), "shop": shop.url(""), "database": database}, server, bank


def test_the_page_runs(surroundings, capsys):
    names, server, bank = surroundings
    for snippet in SNIPPETS:
        program = snippet.replace('"http://127.0.0.1:36789"', "server")
        exec(compile(program, str(PAGE), "exec"), names)
    asyncio.run(names["transfer"]())
    server.settle()
    printed = capsys.readouterr().out
    assert "sorry: reason:refused." in printed
    assert "failed" in printed
    with contextlib.closing(names["connection"]) as connection:
        assert connection.execute("SELECT balance FROM account").fetchone() == (70,)
        query = {"trans_type": "msg", "gid": "never", "branch_id": "00", "op": "msg"}
        assert names["asked"](query, connection) == 409
    called = {(call.path, call.op) for call in bank.calls}
    assert {("/take", "confirm"), ("/xa/in", "commit"), ("/refund", "compensate"), ("/in", "action")} <= called
    assert ("/ship", "action") not in called
    names["client"].close()


def test_the_page_has_every_kind_of_transaction():
    assert len(SNIPPETS) >= 9
    text = "".join(SNIPPETS)
    assert all(f"client.{verb}(" in text for verb in ("saga", "tcc", "xa", "msg", "get", "query", "wait", "retry_now"))
