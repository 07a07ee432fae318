"""A handler that goes round again asks the same barrier again: the effect has the number of the first time."""

import asyncio
import contextlib
import gc
import secrets
import sqlite3
import threading
import weakref

import pymysql
import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio

from reefknot.barrier import AsyncBarrier, Barrier, LocalTransactionOpen, Reason
from reefknot.barrier.drivers import async_driver_of, driver_of
from reefknot.barrier.statements import Database, table_sql
from reefknot.compat.dtmcli.barrier import BranchBarrier
from reefknot.errors import Failure, Invalid
from sdk.barrier_business import prepare
from sdk.barrier_connections import LIBRARIES, parts
from sdk.barrier_scenes import Stages, done, on

ONE = [("g1", "action", "01", "action")]
TWO = [*ONE, ("g1", "action", "02", "action")]


class Conflict(Exception):
    """What makes a handler go round again."""


@pytest.fixture(scope="module")
def stages(request, tmp_path_factory):
    return Stages(request, tmp_path_factory.mktemp("again"))


@pytest.fixture(params=list(LIBRARIES))
def stage(request, stages):
    return stages(request.param)


async def attempt(stage, barrier, *parts, fails=False):
    """One round of a handler: a transaction around its pieces of work; what the barrier said."""
    said = []
    with contextlib.suppress(Conflict):
        async with stage.transaction() as connection:
            for part in parts or (None,):
                if await stage.passes(barrier, connection, part):
                    await stage.effect(connection)
                said.append(barrier.reason)
            if fails:
                raise Conflict
    return said


def test_a_transaction_that_is_begun_again(stage):
    """Rolled back once; then its answer is lost, the server repeats it, and compensates it."""

    async def scene():
        barrier = stage.barrier()
        assert await attempt(stage, barrier, fails=True) == [Reason.RUN]
        gc.collect()
        assert await attempt(stage, barrier) == [Reason.RUN]
        assert await attempt(stage, stage.barrier()) == [Reason.REPEATED]
        assert await attempt(stage, stage.barrier(op="compensate")) == [Reason.RUN]

    stage.run(scene)
    assert stage.rows() == [*ONE, ("g1", "compensate", "01", "compensate")]
    assert stage.effects() == ["g1", "g1"]


def test_on_the_same_connection(stage):
    async def scene():
        barrier = stage.barrier()
        async with stage.idle() as connection:
            for word in ("rollback", "rollback", "commit"):
                await begin(stage, connection)
                assert await stage.passes(barrier, connection)
                await stage.effect(connection)
                await end(stage, connection, word)
        assert await attempt(stage, stage.barrier()) == [Reason.REPEATED]

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (ONE, ["g1"])


async def begin(stage, connection):
    await end(stage, connection, "begin")


async def end(stage, connection, word):
    """Through the driver, as the client does."""
    driver = async_driver_of(connection) if stage.library.asynchronous else driver_of(connection)
    await done(getattr(driver, word)())


def test_a_copy_of_the_call_comes_in_between(stage):
    """It waited at the row that was rolled back. Another number would do the work twice."""

    async def scene():
        barrier = stage.barrier()
        assert await attempt(stage, barrier, fails=True) == [Reason.RUN]
        assert await attempt(stage, stage.barrier()) == [Reason.RUN]
        with pytest.raises(Invalid, match="part: is missing"):
            await attempt(stage, barrier)
        # What the server makes of that error: it repeats the call.
        assert await attempt(stage, stage.barrier()) == [Reason.REPEATED]

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (ONE, ["g1"])


def test_a_copy_that_comes_in_between_a_call(stage):
    async def scene():
        barrier = stage.barrier()

        async def broken(connection):
            raise Conflict

        async with stage.idle() as connection:
            with pytest.raises(Conflict):
                await stage.call(barrier, connection, broken)
            assert await attempt(stage, stage.barrier()) == [Reason.RUN]
            await stage.call(barrier, connection, stage.effect)
        assert barrier.reason is Reason.REPEATED

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (ONE, ["g1"])


def test_an_undo_that_comes_in_between_keeps_the_next_attempt_out(stage):
    async def scene():
        barrier = stage.barrier()
        assert await attempt(stage, barrier, fails=True) == [Reason.RUN]
        assert await attempt(stage, stage.barrier(op="compensate")) == [Reason.NOTHING_TO_UNDO]
        assert await attempt(stage, barrier) == [Reason.TOO_LATE]

    stage.run(scene)
    assert stage.effects() == []


def test_pieces_of_work_have_numbers(stage):
    async def scene():
        barrier = stage.barrier()
        for _ in range(2):
            assert await attempt(stage, barrier, 1, 2, fails=True) == [Reason.RUN] * 2
        assert await attempt(stage, barrier, 1, 2) == [Reason.RUN] * 2
        assert await attempt(stage, stage.barrier(), 1, 2) == [Reason.REPEATED] * 2

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (TWO, ["g1"] * 2)


def test_the_first_piece_needs_no_number(stage):
    async def scene():
        barrier = stage.barrier()
        assert await attempt(stage, barrier, None, 2, fails=True) == [Reason.RUN] * 2
        assert await attempt(stage, barrier, None, 2) == [Reason.RUN] * 2
        with pytest.raises(Invalid, match="give one each time"):
            await attempt(stage, stage.barrier(), 1, None)

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (TWO, ["g1"] * 2)


def test_a_second_piece_without_its_number_is_not_left_out_silently(stage):
    async def scene():
        barrier = stage.barrier()
        with pytest.raises(Invalid, match="part=2"):
            await attempt(stage, barrier, None, None)
        assert await attempt(stage, stage.barrier(), 1, 2) == [Reason.RUN] * 2

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (TWO, ["g1"] * 2)


def test_the_second_of_two_transactions(stage):
    """The first is committed; only the second is begun again."""

    async def scene():
        barrier = stage.barrier()
        assert await attempt(stage, barrier) == [Reason.RUN]
        for fails in (True, True, False):
            assert await attempt(stage, barrier, 2, fails=fails) == [Reason.RUN]
        again = stage.barrier()
        assert [await attempt(stage, again, part) for part in (1, 2)] == [[Reason.REPEATED]] * 2

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (TWO, ["g1"] * 2)


@pytest.mark.parametrize("part", [0, 100, -1, "2"])
def test_numbers_have_two_digits(part):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(table_sql(Database.SQLITE))
        with pytest.raises(Invalid, match=r"part: is .*from 1 to 99"):
            Barrier("saga", "g1", "01", "action").passes(connection, part=part)


def test_a_call_whose_work_failed(stage):
    async def scene():
        barrier = stage.barrier()

        async def broken(connection):
            await stage.effect(connection)
            raise Conflict

        async with stage.idle() as connection:
            for _ in range(2):
                with pytest.raises(Conflict):
                    await stage.call(barrier, connection, broken)
            await stage.call(barrier, connection, stage.effect)
            assert barrier.reason is Reason.RUN
            await stage.call(barrier, connection, stage.effect)  # a second piece of work
            assert barrier.reason is Reason.RUN

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (TWO, ["g1"] * 2)


def test_calls_and_transactions_of_ones_own(stage):
    async def scene():
        barrier = stage.barrier()
        assert await attempt(stage, barrier, fails=True) == [Reason.RUN]
        async with stage.idle() as connection:
            await stage.call(barrier, connection, stage.effect)
        assert await attempt(stage, barrier) == [Reason.RUN]

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == (TWO, ["g1"] * 2)


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_two_databases_in_one_handler(stages, name):
    """The second database never has the first one's row: that is no sign of a rollback."""
    first, second = stages(name, 1), stages(name, 2)

    async def handler(barrier, *, fails=False):
        return await attempt(first, barrier, fails=fails) + await attempt(second, barrier, fails=fails)

    async def scene():
        barrier = first.barrier()
        assert await handler(barrier, fails=True) == [Reason.RUN] * 2
        assert await handler(barrier) == [Reason.RUN] * 2
        assert await handler(first.barrier()) == [Reason.REPEATED] * 2

    first.run(scene)
    assert (first.rows(), first.effects()) == (ONE, ["g1"])
    assert (second.rows(), second.effects()) == (ONE, ["g1"])


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_of_two_databases_the_second_alone_is_begun_again(stages, name):
    first, second = stages(name, 1), stages(name, 2)

    async def scene():
        barrier = first.barrier()
        await attempt(first, barrier)
        assert await attempt(second, barrier, fails=True) == [Reason.RUN]
        assert await attempt(second, barrier) == [Reason.RUN]

    first.run(scene)
    assert (first.rows(), second.rows()) == (ONE, ONE)


@pytest.mark.parametrize("name", [name for name in on(Database.POSTGRES) if not name.startswith("django")])
def test_two_transactions_at_once_on_one_database(stages, name):
    """Whether the row that cannot be seen is rolled back or not committed yet is not to be guessed."""
    stage = stages(name)

    async def scene():
        barrier = stage.barrier()
        async with stage.transaction() as one:
            assert await stage.passes(barrier, one)
            async with stage.idle() as other:
                await begin(stage, other)
                with pytest.raises(LocalTransactionOpen, match="still inside"):
                    await stage.passes(barrier, other)
                await end(stage, other, "rollback")
        assert await attempt(stage, barrier, 2) == [Reason.RUN]

    stage.run(scene)
    assert stage.rows() == TWO


def test_a_barrier_keeps_no_connection_alive(stages):
    stage = stages("sqlalchemy-sqlite")
    barrier = stage.barrier()
    connection = stage.library.engine.connect()
    assert barrier.passes(connection)
    connection.rollback()
    gone = weakref.ref(connection)
    connection.close()
    del connection
    gc.collect()
    assert gone() is None


def test_a_second_attempt_waits_for_its_turn_to_write(stages):
    """A transaction of SQLite that begins by reading is refused at once while somebody else writes."""
    stage = stages("sqlite3")
    barrier = stage.barrier()
    with contextlib.closing(sqlite3.connect(stage.url, isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN")
        assert barrier.passes(connection)
        connection.execute("ROLLBACK")
        writer = sqlite3.connect(stage.url, isolation_level=None, check_same_thread=False)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO effect VALUES ('writer', '01', 'action')")
        timer = threading.Timer(0.3, lambda: (writer.execute("COMMIT"), writer.close()))
        timer.start()
        connection.execute("BEGIN")
        assert barrier.passes(connection)
        connection.execute("COMMIT")
        timer.join()
    assert stage.rows() == ONE


def test_memory_databases_are_not_taken_for_each_other():
    with contextlib.closing(sqlite3.connect(":memory:")) as one, contextlib.closing(sqlite3.connect(":memory:")) as two:
        barrier = Barrier("saga", "g1", "01", "action")
        for connection in (one, two):
            connection.executescript(table_sql(Database.SQLITE))
            assert barrier.passes(connection)
        assert two.execute("SELECT barrier_id FROM barrier").fetchall() == [("01",)]


def test_an_unqualified_table_in_two_schemas_of_one_server(mariadb):
    """Their connections differ in the default schema only."""
    urls = [mariadb.create_database(f"again_{secrets.token_hex(4)}") for _ in range(2)]
    said = []
    for url in urls:
        prepare(Database.MYSQL, url, "barrier")
    for _ in range(2):
        barrier = Barrier("saga", "g1", "01", "action", table="barrier")
        for url in urls:
            with contextlib.closing(pymysql.connect(**parts(url))) as connection:
                barrier.passes(connection)
                connection.commit()
                said.append(barrier.reason)
    assert said == [Reason.RUN, Reason.RUN, Reason.REPEATED, Reason.REPEATED]


# --- Redis --------------------------------------------------------------------------------------------


class Deaf(redis_py.Redis):
    """Sends the script and does not hear the answer, once."""

    deaf = True

    def execute_command(self, *arguments, **options):
        answer = super().execute_command(*arguments, **options)
        if self.deaf and arguments[0] == "EVALSHA":
            self.deaf = False
            raise redis_py.TimeoutError("timed out")
        return answer


class AsyncDeaf(redis_asyncio.Redis):
    deaf = True

    async def execute_command(self, *arguments, **options):
        answer = await super().execute_command(*arguments, **options)
        if self.deaf and arguments[0] == "EVALSHA":
            self.deaf = False
            raise redis_py.TimeoutError("timed out")
        return answer


@pytest.mark.parametrize("method", ["redis_adjust", "script"])
def test_a_script_whose_answer_was_not_heard(redis, method):
    gid, key = secrets.token_hex(6), f"account-{secrets.token_hex(4)}"
    arguments = (key, -30) if method == "redis_adjust" else ("return redis.call('INCRBY', KEYS[1], -30)", [key])
    with redis_py.Redis.from_url(redis.url) as plain, Deaf.from_url(redis.url) as client:
        plain.set(key, 100)
        barrier = Barrier("saga", gid, "01", "action")
        getattr(Barrier("saga", "warm" + gid, "01", "action"), method)(plain, *arguments)  # the script is known
        with pytest.raises(redis_py.TimeoutError):
            getattr(barrier, method)(client, *arguments)
        assert barrier.reason is None
        getattr(barrier, method)(client, *arguments)
        assert barrier.reason is Reason.REPEATED
        assert plain.get(key) == b"40"


def test_a_script_whose_answer_was_not_heard_async(redis):
    gid, key = secrets.token_hex(6), f"account-{secrets.token_hex(4)}"

    async def run():
        async with redis_asyncio.Redis.from_url(redis.url) as plain, AsyncDeaf.from_url(redis.url) as client:
            await plain.set(key, 100)
            await AsyncBarrier("saga", "warm" + gid, "01", "action").redis_adjust(plain, key, -30)
            barrier = AsyncBarrier("saga", gid, "01", "action")
            with pytest.raises(redis_py.TimeoutError):
                await barrier.redis_adjust(client, key, -30)
            await barrier.redis_adjust(client, key, -30)
            assert barrier.reason is Reason.REPEATED
            assert await plain.get(key) == b"40"

    asyncio.run(run())


def test_redis_and_a_database_in_one_handler(stages, redis):
    """The database rolls back, Redis does not: each goes on with its own number."""
    stage, gid, key = stages("psycopg"), secrets.token_hex(6), f"account-{secrets.token_hex(4)}"
    barrier = stage.barrier(gid)
    with redis_py.Redis.from_url(redis.url) as client:
        client.set(key, 100)
        for fails in (True, False):
            with contextlib.suppress(Conflict), stage.library.transaction() as connection:
                assert barrier.passes(connection, part=1)
                barrier.redis_adjust(client, key, -30, part=2)
                if fails:
                    raise Conflict
        assert (barrier.reason, client.get(key)) == (Reason.REPEATED, b"70")
    assert stage.rows() == [(gid, "action", "01", "action")]


def test_a_message_that_is_too_late_stays_so(stages):
    """Asked again, ``call`` does not take another number, which nothing would keep out."""
    stage = stages("sqlite3")
    with stage.library.idle() as connection:
        with pytest.raises(Failure):
            Barrier("msg", "g1", "00", "msg").asked(connection)
        barrier = Barrier("msg", "g1", "00", "msg")
        for _ in range(2):
            with pytest.raises(Failure, match="cannot any more"):
                barrier.call(connection, lambda _: pytest.fail("too late"))
    assert stage.rows() == [("g1", "msg", "01", "rollback")]


# --- the old names ------------------------------------------------------------------------------------


def test_the_old_barrier_goes_round_too(stages):
    stage = stages("pymysql")
    stage.change("CREATE DATABASE IF NOT EXISTS dtm_barrier", "CREATE TABLE IF NOT EXISTS dtm_barrier.barrier LIKE own")
    gid = secrets.token_hex(6)
    barrier = BranchBarrier("saga", gid, "01", "action")

    def broken(cursor):
        cursor.execute(stage.library.insert, (gid, "01", "action"))
        raise Conflict

    with stage.library.idle() as connection:
        cursor = connection.cursor()
        with pytest.raises(Conflict):
            barrier.call(cursor, broken)
        barrier.call(cursor, lambda cursor: cursor.execute(stage.library.insert, (gid, "01", "action")))
        BranchBarrier("saga", gid, "01", "action").call(cursor, lambda _: pytest.fail("repeated"))
    assert stage.effects() == [gid]
