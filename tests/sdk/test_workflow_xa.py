"""Workflows with steps in databases that prepare them, on MariaDB and PostgreSQL."""

import secrets

import pytest

from reefknot import AsyncWorkflow, Failure, Ongoing, OutcomeUnknown, RolledBack, Workflow, workflow
from reefknot.barrier.statements import Database
from reefknot.client.transports.urllib3 import Urllib3Transport
from reefknot.testing.databases.postgres import PostgresServer
from reefknot.testing.participant import FAILURE
from reefknot.testing.server import LocalServer
from sdk.workflow_bank import Program, new_gid
from sdk.xa_bank import START, AioMySql, Asyncpg, Psycopg, PyMySql, XaBanks

MOVED = {"out": START - 30, "in": START + 30}
SAME = {"out": START, "in": START}


@pytest.fixture(scope="module")
def preparing():
    with PostgresServer(fsync=False, settings={"max_prepared_transactions": "50"}) as server:
        yield server


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.fixture(params=[PyMySql, Psycopg, AioMySql, Asyncpg], ids=lambda library: library.__name__)
def banks(request, server):
    yield from opened(request.param, request, server)


def opened(library, request, server):
    if library.database is Database.MYSQL:
        url = request.getfixturevalue("mariadb").create_database(f"wf_{secrets.token_hex(4)}")
    else:
        url = request.getfixturevalue("preparing").url
    with XaBanks(library, url, server.url.removesuffix("/api/dtmsvr")) as banks:
        yield banks
        assert banks.prepared() == []


@pytest.fixture(params=[PyMySql, Psycopg], ids=lambda library: library.__name__)
def sync_banks(request, server):
    yield from opened(request.param, request, server)


class Transfer:
    """Two xa steps; ``says`` has what a step raises once, by its name."""

    def __init__(self, banks):
        self.banks = banks
        self.says = {}
        self.worked = []
        asynchronous = hasattr(banks.library, "asynchronous")
        self.function = workflow("transfer")(self._async_transfer if asynchronous else self._transfer)

    def _transfer(self, w: Workflow) -> list[str]:
        return [w.xa(self._connect, self._moving(name, amount)) for name, amount in (("out", -30), ("in", 30))]

    async def _async_transfer(self, w: AsyncWorkflow) -> list[str]:
        return [
            await w.xa(self._connect, self._async_moving(name, amount)) for name, amount in (("out", -30), ("in", 30))
        ]

    def _connect(self):
        return self.banks.library.connect(self.banks.url)

    def _moving(self, name, amount):
        def move(connection) -> str:
            self.banks.library.move(connection, amount, name)
            return self._said(name)

        return move

    def _async_moving(self, name, amount):
        async def move(connection) -> str:
            await self.banks.library.move(connection, amount, name)
            return self._said(name)

        return move

    def _said(self, name):
        self.worked.append(name)
        if name in self.says:
            raise self.says.pop(name)
        return f"{name} {len(self.worked)}"


@pytest.fixture
def transfer(banks):
    return Transfer(banks)


@pytest.mark.conformance("TestWorkflowXaAction")
def test_workflow_xa_action(server, banks, transfer):
    gid = new_gid()
    with Program(server, [transfer.function]) as program:
        assert program.run(gid, transfer.function) == ["out 1", "in 2"]
        assert (program.state(gid), banks.balances()) == ("succeed", MOVED)
        assert program.rows(gid, "business", "action", "commit") == [
            ("01", "business", "succeed"),
            ("01", "action", "succeed"),
            ("02", "business", "succeed"),
            ("02", "action", "succeed"),
            ("02", "commit", "succeed"),
            ("01", "commit", "succeed"),
        ]
        assert program.run(gid, transfer.function) == ["out 1", "in 2"]
        assert banks.rows(gid) == [("01", "action", "action"), ("02", "action", "action")]


@pytest.mark.conformance("TestWorkflowXaRollback")
def test_workflow_xa_rollback(server, banks, transfer):
    gid = new_gid()
    transfer.says["in"] = Failure("no account")
    with Program(server, [transfer.function]) as program:
        with pytest.raises(RolledBack, match="no account"):
            program.run(gid, transfer.function)
        assert (program.state(gid), banks.balances()) == ("failed", SAME)
        assert program.rows(gid, "action", "rollback") == [
            ("01", "action", "succeed"),
            ("02", "action", "failed"),
            # Nothing is prepared there; it keeps a late copy of the work out.
            ("02", "rollback", "succeed"),
            ("01", "rollback", "succeed"),
        ]


@pytest.mark.conformance("TestWorkflowXaResume")
def test_workflow_xa_resume(server, banks, transfer):
    gid = new_gid()
    transfer.says["out"] = Ongoing("once")
    with Program(server, [transfer.function]) as program:
        with pytest.raises(Ongoing, match="once"):
            program.run(gid, transfer.function)
        assert (program.state(gid), banks.prepared()) == ("prepared", [])
        for _ in range(2):
            transfer.says["in"] = Ongoing("again")
            program.cron()
            assert program.state(gid) == "prepared"
            assert len(banks.prepared()) == 1
        program.cron()
        assert (program.state(gid), banks.balances()) == ("succeed", MOVED)
        assert transfer.worked == ["out", "out", "in", "in", "in"]


@pytest.mark.conformance("TestWorkflowMixed")
def test_workflow_mixed(server, sync_banks):
    banks, noted = sync_banks, []

    @workflow("mixed")
    def mixed(w: Workflow, service: str) -> str:
        note = w.do(lambda: noted.append("note") or "noted", undo=lambda: noted.append("gone"))
        w.call(f"{service}/hold", commit=f"{service}/take", undo=f"{service}/free")
        w.xa(lambda: banks.library.connect(banks.url), lambda db: banks.library.move(db, -30, "out"))
        w.xa(lambda: banks.library.connect(banks.url), lambda db: banks.library.move(db, 30, "in"))
        w.call(f"{service}/last", undo=f"{service}/unlast")
        return note

    with Program(server, [mixed], headers={"x-tenant": "a"}) as program:
        gid = new_gid()
        assert program.run(gid, mixed, program.url("")) == "noted"
        assert (program.state(gid), banks.balances()) == ("succeed", MOVED)
        paths = [path for path, _ in program.called(gid)]
        assert paths == ["/hold", "/last", "/take"]
        assert {call.headers["x-tenant"] for call in program.bank.calls} == {"a"}
        gid = new_gid()
        program.bank.script("/last", [FAILURE])
        with pytest.raises(RolledBack):
            program.run(gid, mixed, program.url(""))
        assert (program.state(gid), banks.balances()) == ("failed", MOVED)
        assert [path for path, _ in program.called(gid)] == ["/hold", "/last", "/unlast", "/free"]
        assert noted == ["note", "note", "gone"]


class Losing:
    """Carries requests; loses one with each of these operations, in this order, or only its answer."""

    def __init__(self, *lost):
        self._inner = Urllib3Transport()
        self._lost = list(lost)

    def send(self, request):
        what, op = self._lost[0] if self._lost else ("", "")
        loses = bool(op) and f'"op":"{op}"'.encode() in request.body
        answer = self._inner.send(request) if not loses or what == "answer" else None
        if loses:
            del self._lost[0]
            raise TimeoutError("the connection was lost")
        return answer

    def close(self):
        self._inner.close()


@pytest.mark.parametrize(
    ("lost", "prepared", "worked"),
    [
        ([("request", "business")], [0], 2),
        ([("answer", "business")], [0], 2),
        ([("request", "action")], [1], 1),
        ([("answer", "action")], [1], 1),
        ([("answer", "business"), ("request", "action")], [0, 1], 2),
    ],
    ids=["business", "its answer", "action", "the other's answer", "both"],
)
def test_a_record_that_is_lost(server, sync_banks, lost, prepared, worked):
    """Before the database has prepared, the work is done again; after that, it is found and not repeated."""
    banks, done = sync_banks, []

    @workflow("once")
    def once(w: Workflow) -> int:
        def move(connection) -> int:
            banks.library.move(connection, -30, "out")
            done.append(connection)
            return len(done)

        return w.xa(lambda: banks.library.connect(banks.url), move)

    gid = new_gid()
    with Program(server, [once], transport=Losing(*lost)) as program:
        for count in prepared:
            with pytest.raises(OutcomeUnknown):
                program.run(gid, once)
            assert (program.state(gid), len(banks.prepared())) == ("prepared", count)
        program.cron()
        assert (program.state(gid), len(done)) == ("succeed", worked)
        assert banks.balances() == {"out": START - 30, "in": START}
        assert program.run(gid, once) == worked
