"""What workflows record: changed code, the decision, several runs at once, values of every kind and size."""

import asyncio
import contextlib
import dataclasses
import secrets
import sqlite3
import threading
import time
import urllib.request
from base64 import b64decode
from datetime import UTC, datetime

import msgspec
import pytest

from reefknot import (
    AsyncWorkflow,
    Barrier,
    Failure,
    Invalid,
    NotFound,
    Ongoing,
    OutcomeUnknown,
    ReefknotError,
    RolledBack,
    Workflow,
    WorkflowChanged,
    workflow,
)
from reefknot.barrier.statements import Database, table_sql
from reefknot.client.ambient import current
from reefknot.client.transports.aiohttp import AiohttpTransport
from reefknot.client.transports.urllib3 import Urllib3Transport
from reefknot.testing.participant import ERROR, FAILURE, OK, ONGOING, Say
from reefknot.testing.server import LocalServer
from sdk.workflow_bank import Program, new_gid, raising


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


# --- changed code ---------------------------------------------------------------------------------


def in_order(*paths, **names):
    @workflow("order")
    def order(w: Workflow, bank: str) -> None:
        for path in paths:
            w.call(bank + path, undo=f"{bank}{path}/undo", name=names.get(path.strip("/"), ""))

    return order


def interrupted(server, gid, old, new, script=ONGOING):
    """Run the old code until /last has no answer, then let the server resume the new one; what it answered."""
    with Program(server, [old]) as program:
        program.bank.script("/last", [script])
        with pytest.raises((Ongoing, OutcomeUnknown)):
            program.run(gid, old, program.url(""))
        body = b'{"bank":"%s"}' % program.url("").encode()
        with Program(server, [new]) as changed:
            answer = changed.handle({"op": "order", "gid": gid}, body)
        return answer, program.called(gid)


@pytest.mark.parametrize(
    ("new", "place"),
    [
        (("/hold", "/in", "/last"), "step 01 was 'call http://127.0.0.1:{port}/out', now it is"),
        (("/in", "/out", "/last"), "step 01 was 'call"),
        (("/out", "/last"), "step 02 was 'call"),
        (("/out", "/new", "/in", "/last"), "/in', now it is 'call"),
        (("/out", "/in", "/other"), "/last', now it is 'call"),
    ],
)
def test_changed_code_is_found_out_and_does_nothing(server, new, place):
    gid = new_gid()
    answer, called = interrupted(server, gid, in_order("/out", "/in", "/last"), in_order(*new))
    assert answer.status == 500
    assert b"WorkflowChanged: step" in answer.body
    assert place.partition("{")[0].encode() in answer.body
    assert [path for path, _ in called] == ["/out", "/in", "/last"]
    assert server.status(gid) == "prepared"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (in_order("/out", "/last"), in_order("/out", "/last", "/more")),
        (in_order("/out", "/last", out="pay", last="end"), in_order("/pay", "/last", pay="pay", last="end")),
        (in_order("/out?once=1", "/last"), in_order("/out?once=2", "/last")),
    ],
    ids=["a step more", "named", "query"],
)
def test_code_that_may_change(server, old, new):
    gid = new_gid()
    answer, _ = interrupted(server, gid, old, new)
    assert (answer.status, server.status(gid)) == (200, "succeed")


def test_changed_code_cannot_be_overlooked(server):
    """A handler for every exception does not make a decision of it."""

    @workflow("order")
    def careless(w: Workflow, bank: str) -> None:
        for path in ("/other", "/last"):
            try:
                w.call(bank + path)
            except Exception as error:
                raise Failure("give up") from error

    gid = new_gid()
    answer, called = interrupted(server, gid, in_order("/out", "/last"), careless)
    assert (answer.status, b"WorkflowChanged" in answer.body) == (500, True)
    assert [path for path, _ in called] == ["/out", "/last"]
    assert server.status(gid) == "prepared"


def test_arguments_may_grow_and_not_change(server):
    @workflow("order")
    def old(w: Workflow, amount: int) -> None: ...

    @workflow("order")
    def more(w: Workflow, amount: int, currency: str = "EUR") -> str:
        return f"{amount} {currency}"

    @workflow("order")
    def others(w: Workflow, price: int) -> None: ...

    gid = new_gid()
    with Program(server, [old]) as program:
        program.start(gid, old, 30)
    with Program(server, [others]) as program:
        answer = program.handle({"op": "order", "gid": gid}, b'{"amount":30}')
        assert (answer.status, b"do not fit the workflow 'order'" in answer.body) == (500, True)
    with Program(server, [more]) as program:
        assert program.handle({"op": "order", "gid": gid}, b'{"amount":30}').status == 200
        assert program.run(gid, more, 30) == "30 EUR"


# --- the decision ---------------------------------------------------------------------------------


def test_a_rollback_that_has_begun_is_finished_whatever_the_code_says_now(server):
    """The reason has gone when the workflow is resumed: it is rolled back all the same, and begins nothing."""
    refusing = [True]

    @workflow("moody")
    def moody(w: Workflow, bank: str) -> None:
        w.call(f"{bank}/out", undo=f"{bank}/out/undo")
        w.call(f"{bank}/in", undo=f"{bank}/in/undo", commit=f"{bank}/in/take")
        if refusing:
            raise Failure("not today")
        w.call(f"{bank}/more", undo=f"{bank}/more/undo")

    gid = new_gid()
    with Program(server, [moody]) as program:
        program.bank.script("/out/undo", [ERROR])
        with pytest.raises(OutcomeUnknown):
            program.run(gid, moody, program.url(""))
        assert program.rows(gid, "decision", "rollback") == [
            ("00", "decision", "succeed"),
            ("02", "rollback", "succeed"),
        ]
        refusing.clear()
        program.cron()
        assert program.state(gid) == "failed"
        assert [path for path, _ in program.called(gid)] == ["/out", "/in", "/in/undo", "/out/undo", "/out/undo"]
        with raising(RolledBack) as errors:
            program.run(gid, moody, program.url(""))
        assert errors[0].reason == "not today"


def test_a_commit_that_has_begun_is_never_rolled_back(server):
    refusing = []

    @workflow("moody")
    def moody(w: Workflow, bank: str) -> None:
        w.call(f"{bank}/out", undo=f"{bank}/out/undo", commit=f"{bank}/out/take")
        if refusing:
            raise Failure("not today")

    gid = new_gid()
    with Program(server, [moody]) as program:
        program.bank.script("/out/take", [ONGOING])
        with pytest.raises(Ongoing):
            program.run(gid, moody, program.url(""))
        refusing.append(True)
        with pytest.raises(WorkflowChanged, match="was decided to succeed, and now its function refuses"):
            program.run(gid, moody, program.url(""))
        assert program.state(gid) == "prepared"
        refusing.clear()
        program.cron()
        assert program.state(gid) == "succeed"
        assert [path for path, _ in program.called(gid)] == ["/out", "/out/take", "/out/take"]


def test_phase_two_must_not_refuse(server):
    @workflow("refused")
    def refused(w: Workflow, bank: str) -> None:
        w.call(f"{bank}/out", commit=f"{bank}/out/take")

    gid = new_gid()
    with Program(server, [refused]) as program:
        program.bank.script("/out/take", [FAILURE])
        with pytest.raises(OutcomeUnknown, match="the commit of step 01 was refused: reason:refused"):
            program.run(gid, refused, program.url(""))
        program.cron()
        assert program.state(gid) == "succeed"


def test_a_step_without_a_clear_answer_is_undone_with_the_rest(server):
    @workflow("give up")
    def give_up(w: Workflow, bank: str) -> None:
        try:
            w.call(f"{bank}/out", undo=f"{bank}/out/undo")
        except OutcomeUnknown as error:
            raise Failure("no patience") from error

    gid = new_gid()
    with Program(server, [give_up]) as program:
        program.bank.script("/out", [ERROR])
        program.bank.script("/out/undo", [ERROR])
        with pytest.raises(OutcomeUnknown):
            program.run(gid, give_up, program.url(""))
        program.cron()
        assert program.state(gid) == "failed"
        assert [path for path, _ in program.called(gid)] == ["/out", "/out/undo", "/out/undo"]


def test_undo_failed_step(server):
    def function(w: Workflow, bank: str) -> None:
        w.call(f"{bank}/out", undo=f"{bank}/out/undo", commit=f"{bank}/out/take")

    both = ["/out", "/out/undo"]
    for undo, expected in ((False, ["/out"]), (True, both), (None, both)):
        flow, gid = workflow("failing", undo_failed_step=undo)(function), new_gid()
        with Program(server, [flow]) as program:
            program.bank.script("/out", [FAILURE])
            with pytest.raises(RolledBack):
                program.run(gid, flow, program.url(""))
            assert [path for path, _ in program.called(gid)] == expected


@pytest.mark.parametrize(("undo", "undone"), [(None, []), (True, ["undone"])])
def test_function_that_refused_is_undone_only_if_the_workflow_says_so(server, undo, undone):
    done = []

    @workflow("local", undo_failed_step=undo)
    def local(w: Workflow) -> None:
        def reserve() -> None:
            raise Failure("none left")

        w.do(reserve, undo=lambda: done.append("undone"))

    gid = new_gid()
    with Program(server, [local]) as program:
        with pytest.raises(RolledBack, match="none left"):
            program.run(gid, local)
        assert done == undone


def test_step_with_a_barrier_of_a_table_of_its_own_is_undone_though_it_refused(server, tmp_path):
    path = tmp_path / "own.db"

    @workflow("own")
    def own(w: Workflow) -> None:
        def take(barrier: Barrier) -> None:
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                assert barrier.passes(connection)
                raise Failure("none left")

        def give_back(barrier: Barrier) -> None:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                barrier.call(connection, lambda _: pytest.fail("there is nothing to undo"))

        w.branch(table="kept").on_rollback(give_back).do(take)

    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(table_sql(Database.SQLITE, "kept"))
    gid = new_gid()
    with Program(server, [own]) as program, pytest.raises(RolledBack, match="none left"):
        program.run(gid, own)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT op, reason FROM kept WHERE gid = ? ORDER BY op", (gid,)).fetchall()
    assert rows == [("action", "rollback"), ("rollback", "rollback")]


def test_a_copy_of_a_refused_call_that_comes_late_finds_the_barrier(server, tmp_path):
    """The account had too little when the call came; when its copy comes, there is enough."""

    @workflow("copied")
    def copied(w: Workflow, bank: str) -> None:
        w.call(f"{bank}/out", undo=f"{bank}/out/undo")

    path, balance = tmp_path / "bank.db", {"alice": 0}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(table_sql(Database.SQLITE))

    def book(call, amount):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            query = {"trans_type": call.mode, "gid": call.gid, "branch_id": call.branch_id, "op": call.op}
            if not Barrier.from_query(query).passes(connection):
                return OK
            if balance["alice"] + amount < 0:
                connection.rollback()
                return FAILURE
            balance["alice"] += amount
            return OK

    gid = new_gid()
    with Program(server, [copied]) as program:
        program.bank.on("/out", lambda call: book(call, -30))
        program.bank.on("/out/undo", lambda call: book(call, 30))
        with pytest.raises(RolledBack):
            program.run(gid, copied, program.url(""))
        balance["alice"] = 100
        query = f"trans_type=workflow&gid={gid}&branch_id=01&op=action"
        with urllib.request.urlopen(f"{program.url('/out')}?{query}", data=b"") as reply:
            assert reply.status == 200
    assert balance == {"alice": 100}


# --- several runs at once -------------------------------------------------------------------------


@pytest.mark.parametrize("same", [True, False], ids=["same answer", "another answer"])
def test_two_runs_at_once(server, same):
    """The first run's call hangs while the second run does everything; both say the same in the end."""

    @workflow("race")
    def race(w: Workflow, bank: str) -> str:
        return w.call(f"{bank}/out", undo=f"{bank}/out/undo").text

    gid, arrived, go_on = new_gid(), threading.Event(), threading.Event()
    calls = []

    def answer(call):
        calls.append(call)
        number = len(calls)
        if number == 1:
            arrived.set()
            go_on.wait(20)
        return Say(body=b"ticket" if same else b"ticket %d" % number)

    with Program(server, [race]) as program:
        program.bank.on("/out", answer)
        results = []
        slow = threading.Thread(target=lambda: results.append(program.run(gid, race, program.url(""))))
        slow.start()
        assert arrived.wait(20)
        fast = program.run(gid, race, program.url(""))
        go_on.set()
        slow.join(20)
        assert results == [fast] == ["ticket" if same else "ticket 2"]
        assert program.rows(gid, "action") == [("01", "action", "succeed")]
        assert program.called(gid) == [("/out", "action")] * 2


def test_the_slower_run_stops_while_the_faster_one_goes_on(server):
    seen, numbers = [], []

    @workflow("race")
    def race(w: Workflow, bank: str) -> None:
        name = threading.current_thread().name
        seen.append(name)
        numbers.append(w.do(lambda: meet(name)))
        w.call(f"{bank}/after")

    both, first_recorded = threading.Barrier(2), threading.Event()

    def meet(name):
        both.wait(20)
        if name == "slow":
            first_recorded.wait(20)
        return name

    gid = new_gid()
    with Program(server, [race]) as program:
        program.bank.script("/after", [ONGOING])
        errors = {}

        def run():
            try:
                program.run(gid, race, program.url(""))
            except Ongoing as error:
                errors[threading.current_thread().name] = error.what
            first_recorded.set()

        threads = []
        for name in ("fast", "slow"):
            threads.append(threading.Thread(target=run, name=name))
            threads[-1].start()
            while len(seen) < len(threads):
                time.sleep(0.005)
        for thread in threads:
            thread.join(20)
        assert "another run of the workflow was faster at step 01 action" in errors["slow"]
        assert program.called(gid) == [("/after", "action")]
        program.cron()
        assert (program.state(gid), set(numbers)) == ("succeed", {"fast"})


def test_two_runs_that_decide_otherwise(server):
    """One of them is undoing when the other one returns: that one must not report a success."""
    returns = threading.Event()

    @workflow("moody")
    def moody(w: Workflow, bank: str) -> None:
        w.call(f"{bank}/out", undo=f"{bank}/out/undo")
        if threading.current_thread().name == "refusing":
            raise Failure("not today")
        assert returns.wait(20)

    gid, undoing, undo = new_gid(), threading.Event(), threading.Event()

    def hold(call):
        undoing.set()
        assert undo.wait(20), call
        return OK

    with Program(server, [moody]) as program:
        program.bank.on("/out/undo", hold)
        errors = {}

        def run():
            try:
                program.run(gid, moody, program.url(""))
            except ReefknotError as error:
                errors[threading.current_thread().name] = error

        threads = [threading.Thread(target=run, name=name) for name in ("refusing", "returning")]
        for thread in threads:
            thread.start()
        assert undoing.wait(20)
        returns.set()
        threads[1].join(20)
        assert program.state(gid) == "prepared"
        undo.set()
        threads[0].join(20)
        assert program.state(gid) == "failed"
        assert isinstance(errors["returning"], Ongoing)
        assert isinstance(errors["refusing"], RolledBack)
        assert program.called(gid).count(("/out/undo", "rollback")) == 1


def test_a_workflow_that_was_stopped_by_hand(server):
    @workflow("stopped")
    def stopped(w: Workflow, bank: str) -> None:
        w.call(f"{bank}/out")
        server.post("forceStop", {"gid": w.gid})
        w.call(f"{bank}/in")

    gid = new_gid()
    with Program(server, [stopped]) as program:
        with pytest.raises(RolledBack):
            program.run(gid, stopped, program.url(""))
        assert program.called(gid) == [("/out", "action")]


# --- values ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Order:
    number: int
    at: datetime
    lines: dict[str, tuple[int, ...]]


class Reservation(msgspec.Struct):
    seat: str
    row: int | None = None


AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORDER = Order(7, AT, {"a": (1, 2)})


def reserve() -> Reservation:
    return Reservation("A1", 3)


@workflow("values")
def values(
    w: Workflow, bank: str, order: Order, *, when: datetime, ratio: float = 0.5
) -> tuple[Order, Reservation, bytes]:
    made = w.do(reserve)
    raw = w.do(lambda: b"\x00\xff", returns=bytes)
    plain = w.do(lambda: [1, "two", None, {"three": 3.5}])
    assert plain == [1, "two", None, {"three": 3.5}]
    assert w.do(lambda: None) is None
    assert (when, ratio) == (AT, 0.25)
    w.call(f"{bank}/last", order)
    return order, made, raw


def test_values_keep_their_types(server):
    gid = new_gid()
    with Program(server, [values]) as program:
        program.bank.script("/last", [ONGOING])
        with pytest.raises(Ongoing):
            program.run(gid, values, program.url(""), ORDER, when=AT, ratio=0.25)
        program.cron()
        assert program.state(gid) == "succeed"
        for _ in range(2):
            found = program.run(gid, values, program.url(""), ORDER, when=AT, ratio=0.25)
            assert found == (ORDER, Reservation("A1", 3), b"\x00\xff")


def test_pydantic_models_are_arguments_and_results(server):
    pydantic = pytest.importorskip("pydantic")

    class Item(pydantic.BaseModel):
        name: str
        amount: int

    def double(w: Workflow, items: list, one: object) -> object:
        return w.do(lambda: Item(name=one.name, amount=2 * one.amount), returns=Item)

    double.__annotations__ |= {"items": list[Item], "one": Item, "return": Item}
    flow = workflow("pydantic")(double)
    with Program(server, [flow]) as program:
        gid, item = new_gid(), Item(name="a", amount=2)
        for _ in range(2):
            assert program.run(gid, flow, [item], item) == Item(name="a", amount=4)
        with pytest.raises(Invalid, match="arguments"):
            program.run(new_gid(), flow, [item], {"name": "b"})


def test_a_parameter_of_bytes_is_what_the_other_language_sent(server):
    @workflow("raw")
    def raw(w: Workflow, data: bytes) -> bytes:
        return data[::-1]

    with Program(server, [raw]) as program:
        gid = new_gid()
        assert program.handle({"op": "raw", "gid": gid}, b"\x01\x02").status == 200
        assert program.run(gid, raw, b"\x01\x02") == b"\x02\x01"


@pytest.mark.parametrize("size", [0, 1_500_000], ids=["small", "large"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_results_of_any_size_and_content(protocol, size):
    with LocalServer(grpc=True) as server:
        url = server.url if protocol == "http" else f"grpc://{server.grpc_address}"
        content = b"\xff\x00" + secrets.token_bytes(size)

        @workflow("large")
        def large(w: Workflow, bank: str) -> str:
            made = w.do(lambda: content, returns=bytes)
            answer = w.call(f"{bank}/large").body
            text = w.do(lambda: "\x00" * size)
            w.call(f"{bank}/last")
            return f"{made == content} {answer == content} {len(text)}"

        with Program(server, [large], url) as program:
            gid = new_gid()
            program.bank.on("/large", lambda _call: Say(body=content))
            program.bank.script("/last", [ONGOING])
            with pytest.raises(Ongoing):
                program.run(gid, large, program.url(""))
            program.cron()
            assert program.run(gid, large, program.url("")) == f"True True {size}"
            assert program.called(gid) == [("/large", "action"), ("/last", "action"), ("/last", "action")]


REFUSED = [
    (lambda: b"x", None, "is bytes, and nothing says so"),
    (lambda: (1, 2), None, "is a tuple, which a replay would give back as list"),
    (lambda: ORDER, None, "is a Order, which a replay would give back as dict"),
    (object, None, "a object cannot be recorded"),
    (lambda: "text", int, "is no int"),
    (lambda: "text", bytes, "is a str"),
]


@pytest.mark.parametrize(("work", "returns", "problem"), REFUSED)
def test_a_result_that_would_not_come_back_is_refused(server, work, returns, problem):
    @workflow("odd")
    def odd(w: Workflow) -> None:
        w.do(work, returns=returns)

    gid = new_gid()
    with Program(server, [odd]) as program:
        with pytest.raises(Invalid, match=problem):
            program.run(gid, odd)
        assert program.rows(gid, "action") == []


def test_a_result_of_the_workflow_that_is_too_large_is_refused(server):
    @workflow("much")
    def much(w: Workflow) -> bytes:
        return bytes(2 * 1024 * 1024 + 1)

    with Program(server, [much]) as program, pytest.raises(Invalid, match="has 2097153 bytes; return at most"):
        program.run(new_gid(), much)


def test_arguments_that_are_too_large_are_refused_before_anything_begins(server):
    begun = []

    @workflow("long")
    def long(w: Workflow, text: str) -> None:
        begun.append(w.gid)

    gid = new_gid()
    with Program(server, [long]) as program:
        program.run(gid, long, "x" * 700_000)
        for run in (program.run, program.start):
            with pytest.raises(Invalid, match="custom_data"):
                run(new_gid(), long, "x" * 1_000_000)
    assert begun == [gid]


# --- form -----------------------------------------------------------------------------------------


def test_branches_part_by_part(server):
    said = []

    def at(what):
        def work(barrier):
            said.append((what, barrier.branch.branch_id, barrier.branch.op, current().branch_id, current().op))
            assert isinstance(barrier, Barrier)
            return what

        return work

    @workflow("parts")
    def parts(w: Workflow, bank: str) -> str:
        branch = w.branch().on_rollback(at("undo")).on_commit(f"{bank}/take", {"n": 1})
        with pytest.raises(Invalid, match="is given twice for step 01"):
            branch.on_commit(f"{bank}/again")
        made = branch.do(at("do"))
        with pytest.raises(Invalid, match="01 has had its action"):
            branch.do(at("again"))
        w.branch().on_commit(at("commit only"))
        with pytest.raises(Invalid, match="step 04 begins inside step 03"):
            w.do(lambda: w.call(f"{bank}/inside"))
        return made

    gid = new_gid()
    with Program(server, [parts]) as program:
        assert program.run(gid, parts, program.url("")) == "do"
        assert said == [("do", "01", "action", "01", "action"), ("commit only", "02", "commit", "02", "commit")]
        assert [(call.path, call.body) for call in program.bank.calls] == [("/take", b'{"n":1}')]


def test_a_handle_is_of_no_use_after_the_function(server):
    kept = []

    @workflow("kept")
    def keep(w: Workflow) -> None:
        kept.append(w)

    with Program(server, [keep]) as program:
        program.run(new_gid(), keep)
        with pytest.raises(Invalid, match="after the workflow's function has ended"):
            kept[0].do(lambda: None)


def test_there_are_99_steps(server):
    @workflow("many")
    def many(w: Workflow) -> int:
        count = 0
        while count < 99:
            w.branch()
            count += 1
        with pytest.raises(Invalid, match="the 99 ids of this transaction are used up"):
            w.branch()
        return count

    with Program(server, [many]) as program:
        assert program.run(new_gid(), many) == 99


def test_steps_at_the_same_time(server):
    @workflow("gathered")
    async def gathered(w: AsyncWorkflow, bank: str) -> list[str]:
        calls = [w.call(f"{bank}/{number}", undo=f"{bank}/undo/{number}") for number in range(5)]
        answers = await asyncio.gather(*calls)
        await w.call(f"{bank}/last")
        return [answer.text for answer in answers]

    gid = new_gid()
    with Program(server, [gathered]) as program:
        for number in range(5):
            program.bank.always(f"/{number}", Say(body=b"%d" % number, seconds=0.02 * (5 - number)))
        program.bank.script("/last", [ONGOING])
        with pytest.raises(Ongoing):
            program.run(gid, gathered, program.url(""))
        program.cron()
        assert program.run(gid, gathered, program.url("")) == ["0", "1", "2", "3", "4"]
        assert len(program.called(gid)) == 7


def without_handle(): ...


def with_many(w, *numbers): ...


def with_names(w, **names): ...


async def all_at_once(*steps):
    await asyncio.gather(*steps)


async def in_a_group(*steps):
    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(step)


class SlowRecords(AiohttpTransport):
    """Takes its time with the records of step 02, before they are sent or with their answers."""

    def __init__(self, before, after):
        super().__init__()
        self._before, self._after = before, after

    async def send(self, request):
        slow = request.url.endswith("/registerBranch") and b'"branch_id":"02"' in request.body
        await asyncio.sleep(self._before * slow)
        response = await super().send(request)
        await asyncio.sleep(self._after * slow)
        return response


@pytest.mark.parametrize(("before", "after"), [(0.3, 0.0), (0.0, 0.3)], ids=["before it is sent", "before its answer"])
def test_step_that_is_cancelled_while_it_is_recorded_is_undone(server, before, after):
    """A task group cancels step 02 when step 01 is refused; nobody has cancelled the workflow."""

    @workflow("cancelled")
    async def cancelled(w: AsyncWorkflow, bank: str) -> None:
        await in_a_group(*(w.call(f"{bank}/{name}", undo=f"{bank}/{name}/undo") for name in ("a", "b")))

    gid = new_gid()
    with Program(server, [cancelled], transport=SlowRecords(before, after)) as program:
        program.bank.always("/a", Say(409, b"no a", seconds=0.1))
        with pytest.raises(RolledBack, match="no a"):
            program.run(gid, cancelled, program.url(""))
        assert program.state(gid) == "failed"
        assert program.called(gid) == [("/a", "action"), ("/b/undo", "rollback"), ("/a/undo", "rollback")]


def test_record_that_fails_while_its_step_is_cancelled_decides_nothing(server):
    class Lossy(SlowRecords):
        async def send(self, request):
            response = await super().send(request)
            if lost and b'"branch_id":"02"' in request.body:
                raise lost.pop()
            return response

    @workflow("lost")
    async def lost_record(w: AsyncWorkflow, bank: str) -> None:
        await in_a_group(*(w.call(f"{bank}/{name}", undo=f"{bank}/{name}/undo") for name in ("a", "b")))

    gid, lost = new_gid(), [ConnectionResetError("the network is down")]
    with Program(server, [lost_record], transport=Lossy(0.0, 0.3)) as program:
        program.bank.always("/a", Say(409, b"no a", seconds=0.1))
        with pytest.raises(ExceptionGroup) as caught:
            program.run(gid, lost_record, program.url(""))
        assert {type(error) for error in caught.value.exceptions} == {Failure, OutcomeUnknown}
        assert program.state(gid) == "prepared"
        program.cron()
        assert program.state(gid) == "failed"


@pytest.mark.parametrize("together", [all_at_once, in_a_group])
def test_nothing_is_undone_while_it_is_being_done(server, together):
    """One of three steps is refused while the others are at work."""

    @workflow("gathered")
    async def gathered(w: AsyncWorkflow, bank: str) -> None:
        await together(*(w.call(f"{bank}/{name}", undo=f"{bank}/{name}/undo") for name in ("a", "b", "c")))

    gid = new_gid()
    with Program(server, [gathered]) as program:
        program.bank.always("/a", Say(seconds=0.3))
        program.bank.always("/b", Say(409, b"no b", seconds=0.1))
        program.bank.always("/c", Say(seconds=0.3))
        with pytest.raises(RolledBack, match="no b"):
            program.run(gid, gathered, program.url(""))
        assert program.state(gid) == "failed"
        assert [path for path, op in program.called(gid) if op == "rollback"] == ["/c/undo", "/b/undo", "/a/undo"]
        # A group cancels the others, whose outcome is then not known.
        if together is all_at_once:
            ended = [call.ended for call in program.bank.calls if call.op == "action"]
            assert all(ended)
            assert min(call.started for call in program.bank.calls if call.op == "rollback") >= max(ended)
        assert program.handle({"op": "gathered", "gid": gid}, b'{"bank":"%s"}' % program.url("").encode()).status == 409


def test_a_group_with_other_errors_decides_nothing(server):
    @workflow("group")
    async def group(w: AsyncWorkflow) -> None:
        raise ExceptionGroup("both", [Failure("no"), ValueError("oops")])

    gid = new_gid()
    with Program(server, [group]) as program:
        with pytest.raises(ExceptionGroup, match="both"):
            program.run(gid, group)
        assert program.state(gid) == "prepared"


def test_the_end_of_another_transaction_is_not_that_of_the_workflow(server):
    @workflow("nested")
    def nested(w: Workflow, bank: str) -> None:
        with program.client.saga(wait=True) as saga:
            saga.step(f"{bank}/refused")

    gid = new_gid()
    with Program(server, [nested]) as program:
        program.bank.always("/refused", FAILURE)
        with raising(OutcomeUnknown) as errors:
            program.run(gid, nested, program.url(""))
        assert "the function let the end of another transaction through" in errors[0].what
        assert (errors[0].gid, program.state(gid)) == (gid, "prepared")


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (without_handle, "its first one is the workflow"),
        (with_many, r"takes \*numbers"),
        (with_names, r"takes \*\*names"),
    ],
)
def test_functions_that_are_no_workflows(function, problem):
    with pytest.raises(Invalid, match=problem):
        workflow("odd")(function)


def test_annotations_are_looked_up_when_the_program_begins(server):
    def nowhere(w: Workflow, order: "Nowhere") -> None: ...  # noqa: F821 - what is tested

    with Program(server, []) as program, pytest.raises(Invalid, match="Nowhere"):
        type(program.flows)(program.client, [workflow("nowhere")(nowhere)], callback=program.callback)


def test_wrong_arguments_are_those_of_a_call(server):
    with Program(server, [values]) as program, pytest.raises(TypeError, match="when"):
        program.run(new_gid(), values, "bank", ORDER)


def test_a_workflow_is_part_of_another_one(server):
    @workflow("inner")
    def inner(w: Workflow, bank: str) -> str:
        return w.call(f"{bank}/in").text

    @workflow("outer")
    def outer(w: Workflow, bank: str) -> str:
        w.call(f"{bank}/out")
        return inner(w, bank)

    gid = new_gid()
    with Program(server, [outer]) as program:
        program.bank.always("/in", Say(body=b"inside"))
        assert program.run(gid, outer, program.url("")) == "inside"
        assert program.rows(gid, "action") == [("01", "action", "succeed"), ("02", "action", "succeed")]


# --- what is said to the server -------------------------------------------------------------------


class Listening:
    """Carries requests and keeps them."""

    def __init__(self):
        self._inner = Urllib3Transport()
        self.requests = []

    def send(self, request):
        self.requests.append(request)
        return self._inner.send(request)

    def close(self):
        self._inner.close()


def test_what_is_said_to_the_server(server):
    """As DTM's clients say it; every record is written before it is answered, on DTM's server too."""
    gid, transport = new_gid(), Listening()
    order = in_order("/out")
    with Program(server, [order], transport=transport, request_timeout=2, callback_timeout=7) as program:
        program.run(gid, order, program.url(""))
        callback = program.callback
        arguments = b'{"bank":"%s"}' % program.url("").encode()
    said = [(request.url.rpartition("/")[2], request) for request in transport.requests]
    prepared = msgspec.json.decode(said[0][1].body)
    custom = msgspec.json.decode(prepared.pop("custom_data"))
    assert prepared == {"gid": gid, "trans_type": "workflow", "query_prepared": callback, "request_timeout": 7}
    assert (custom["name"], b64decode(custom["data"])) == ("order", arguments)
    registered = [msgspec.json.decode(request.body) for verb, request in said if verb == "registerBranch"]
    assert [(fields["branch_id"], fields["op"], fields["status"], fields["sync"]) for fields in registered] == [
        ("01", "step", "succeed", "true"),
        ("01", "action", "succeed", "true"),
        ("00", "decision", "succeed", "true"),
    ]
    assert registered[1]["data"] == '{"dtm_result":"SUCCESS"}'
    assert [request.timeout for verb, request in said if verb.startswith("out?")] == [2.0]
    ended = msgspec.json.decode(said[-1][1].body)
    assert ended == {"gid": gid, "trans_type": "workflow", "req_extra": {"status": "succeed", "result": ""}}


def test_a_server_that_keeps_no_result():
    @workflow("kept")
    def kept(w: Workflow) -> str:
        return "kept"

    with pytest.raises(NotFound, match="does not tell what it returned"):
        kept.decode_result(b"")
