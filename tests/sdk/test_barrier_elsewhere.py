"""One barrier in several databases: ``call`` and scripts of Redis count in one only; in several, parts have names."""

import asyncio
import contextlib
import secrets
import sqlite3

import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio

from reefknot.barrier import AsyncBarrier, Barrier, Reason
from reefknot.barrier.statements import Database, table_sql
from reefknot.compat.dtmcli.barrier import BranchBarrier
from reefknot.errors import Invalid
from sdk.barrier_connections import LIBRARIES
from sdk.barrier_scenes import Stages, done

ACTION = [("g1", "action", "01", "action")]
ELSEWHERE = r"part: is missing.*in another database or Redis.*part=1, part=2"


@pytest.fixture(scope="module")
def stages(request, tmp_path_factory):
    return Stages(request, tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(params=list(LIBRARIES))
def pair(request, stages):
    """A library on two databases."""
    return stages(request.param, 1), stages(request.param, 2)


async def called(stage, barrier, part=None):
    """``call`` on a new connection, which is as good as new afterwards; what the barrier said."""
    async with stage.idle() as connection:
        try:
            await stage.call(barrier, connection, stage.effect, part)
        finally:
            await stage.call(
                stage.barrier("after"),
                connection,
                lambda connection: stage.statement(connection, "UPDATE effect SET gid = gid"),
            )
    return barrier.reason


async def passed(stage, barrier, part=None):
    async with stage.transaction() as connection:
        if await stage.passes(barrier, connection, part):
            await stage.effect(connection)
    return barrier.reason


def rows(stage):
    return [row for row in stage.rows() if row[0] == "g1"]


def test_a_second_database_without_a_part_is_refused(pair):
    """Counted through, the undo in another order would find nothing to undo and say that all is well."""
    first, second = pair

    async def scene():
        barrier = first.barrier()
        assert await called(first, barrier) is Reason.RUN
        for ask in (called, passed):
            with pytest.raises(Invalid, match=ELSEWHERE):
                await ask(second, barrier)
        assert await called(first, barrier) is Reason.RUN  # the same database again is counted

    first.run(scene)
    assert rows(first) == [*ACTION, ("g1", "action", "02", "action")]
    assert (rows(second), second.effects()) == ([], [])


def test_a_call_after_a_question_elsewhere_is_refused(pair):
    first, second = pair

    async def scene():
        barrier = first.barrier()
        assert await passed(first, barrier) is Reason.RUN
        with pytest.raises(Invalid, match=ELSEWHERE):
            await called(second, barrier)
        assert await passed(second, barrier) is Reason.RUN  # each has its own first row

    first.run(scene)
    assert (rows(first), rows(second)) == (ACTION, ACTION)


@pytest.mark.parametrize("undo", [called, passed])
def test_parts_are_undone_in_any_order(pair, undo):
    first, second = pair

    async def scene():
        barrier = first.barrier()
        assert await called(first, barrier, 1) is Reason.RUN
        assert await called(second, barrier, 2) is Reason.RUN
        barrier = first.barrier(op="compensate")
        assert await undo(second, barrier, 2) is Reason.RUN
        assert await undo(first, barrier, 1) is Reason.RUN

    first.run(scene)
    assert (first.effects(), second.effects()) == (["g1"] * 2, ["g1"] * 2)


def test_a_call_that_failed_does_not_decide_where_is_counted(pair):
    first, second = pair

    async def broken(_):
        raise ZeroDivisionError

    async def scene():
        barrier = first.barrier()
        async with first.idle() as connection:
            with pytest.raises(ZeroDivisionError):
                await first.call(barrier, connection, broken)
        assert await called(second, barrier) is Reason.RUN

    first.run(scene)
    assert (rows(first), rows(second)) == ([], ACTION)


def test_databases_that_cannot_be_told_apart_are_not_taken_for_one():
    with contextlib.closing(sqlite3.connect(":memory:")) as one, contextlib.closing(sqlite3.connect(":memory:")) as two:
        barrier = Barrier("saga", "g1", "01", "action")
        for connection in (one, two):
            connection.executescript(table_sql(Database.SQLITE))
        barrier.call(one, lambda _: None)
        barrier.call(one, lambda _: None)
        with pytest.raises(Invalid, match=ELSEWHERE):
            barrier.call(two, lambda _: pytest.fail("counted"))
        assert one.execute("SELECT barrier_id FROM barrier ORDER BY id").fetchall() == [("01",), ("02",)]


def test_the_old_barrier_counts_through(tmp_path):
    """As the old client did: it has no word for a part."""
    with contextlib.ExitStack() as opened:
        barrier = BranchBarrier("saga", "g1", "01", "action")
        for number in (1, 2):
            connection = opened.enter_context(contextlib.closing(sqlite3.connect(tmp_path / f"{number}.db")))
            connection.executescript(table_sql(Database.SQLITE))
            barrier.call(connection.cursor(), lambda _: None)
            assert connection.execute("SELECT barrier_id FROM barrier").fetchall() == [(f"0{number}",)]


# --- Redis --------------------------------------------------------------------------------------------


@pytest.fixture(params=["sync", "async"])
def play(request):
    """Run a scene with the barrier's class and the library's."""

    def played(scene):
        if request.param == "async":
            return asyncio.run(scene(AsyncBarrier, redis_asyncio.Redis))
        playing = scene(Barrier, redis_py.Redis)
        try:
            playing.send(None)
        except StopIteration:
            return None
        raise AssertionError("a scene of a sync library waited")

    return played


METHODS = {
    "redis_adjust": lambda barrier, client, key, **names: barrier.redis_adjust(client, key, 1, **names),
    "script": lambda barrier, client, key, **names: barrier.script(
        client, "return redis.call('INCR', KEYS[1])", [key], **names
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("differs", ["database", "prefix"])
def test_a_second_redis_without_a_part_is_refused(play, redis, method, differs):
    gid, key, ask = secrets.token_hex(6), secrets.token_hex(6), METHODS[method]

    async def scene(barriers, clients):
        first, again = clients.from_url(redis.url), clients.from_url(redis.url)
        other = (
            clients.from_url(redis.url.rpartition("/")[0] + "/1")
            if differs == "database"
            else clients.from_url(redis.url)
        )
        names = {"prefix": "other-"} if differs == "prefix" else {}
        for client in (first, other):
            await done(client.set(key, 10))
        barrier = barriers("saga", gid, "01", "action")
        await done(ask(barrier, first, key))
        await done(ask(barrier, again, key))
        assert barrier.reason is Reason.RUN  # the same Redis again is counted
        with pytest.raises(Invalid, match=ELSEWHERE):
            await done(ask(barrier, other, key, **names))
        stored = [bool(await done(first.exists(f"{gid}-01-action-0{number}"))) for number in (1, 2, 3)]
        assert stored == [True, True, False]
        assert await done(other.keys(f"*{gid}-01-action-03")) == []
        assert int(await done(other.get(key))) == (10 if differs == "database" else 12)
        for client in (first, again, other):
            await done(client.aclose() if barriers is AsyncBarrier else client.close())

    play(scene)


@pytest.mark.parametrize("method", METHODS)
def test_redis_and_a_database_without_a_part_are_refused(stages, redis, method):
    stage, gid, key, ask = stages("sqlite3"), secrets.token_hex(6), secrets.token_hex(6), METHODS[method]
    with redis_py.Redis.from_url(redis.url) as client, stage.library.idle() as connection:
        client.set(key, 10)
        barrier = stage.barrier(gid)
        ask(barrier, client, key)
        with pytest.raises(Invalid, match=ELSEWHERE):
            barrier.call(connection, lambda _: pytest.fail("counted"))
        barrier = stage.barrier("g2")
        with connection:
            assert barrier.passes(connection)
        with pytest.raises(Invalid, match=ELSEWHERE):
            ask(barrier, client, key)
        assert client.get(key) == b"11"
    assert stage.rows() == [("g2", "action", "01", "action")]


def test_redis_and_a_database_are_undone_in_any_order(stages, play, redis):
    gid, key = secrets.token_hex(6), secrets.token_hex(6)

    async def scene(barriers, clients):
        stage, client = stages("aiosqlite" if barriers is AsyncBarrier else "sqlite3"), clients.from_url(redis.url)
        await done(client.set(key, 10))
        barrier = barriers("saga", gid, "01", "action")
        await done(barrier.redis_adjust(client, key, -1, part=1))
        assert await called(stage, barrier, 2) is Reason.RUN
        barrier = barriers("saga", gid, "01", "compensate")
        assert await called(stage, barrier, 2) is Reason.RUN
        await done(barrier.redis_adjust(client, key, 1, part=1))
        assert (barrier.reason, int(await done(client.get(key)))) == (Reason.RUN, 10)
        await done(barrier.redis_adjust(client, key, 1, part=1))
        assert (barrier.reason, int(await done(client.get(key)))) == (Reason.REPEATED, 10)
        await done(client.aclose() if barriers is AsyncBarrier else client.close())

    play(scene)
