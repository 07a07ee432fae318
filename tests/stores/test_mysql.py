"""What only the MySQL store promises: the database's time in any zone, migrations, plans, and races of many nodes."""

import asyncio
import secrets
import time

import asyncmy
import pytest

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints, disarmed
from reefknot.model import Status
from reefknot.store import open_store, pending_migrations
from reefknot.store.base import NEVER_MS, Created, Filter
from reefknot.store.mysql.location import parse_url
from reefknot.store.mysql.schema import PACKAGE
from reefknot.store.statements import load_statements
from reefknot.testing.clock import ManualClock, ShiftedClock
from reefknot.testing.conformance.store.building import create, due, finish, new, prepared, record, row, step, submit

pytestmark = pytest.mark.anyio


def ahead(seconds):
    clock = ShiftedClock()
    clock.shift(seconds)
    return clock


@pytest.fixture
async def admin(mysql_nodes):
    where = parse_url(mysql_nodes.url)
    connection = await asyncmy.connect(
        host=where.host, port=where.port, user=where.user, password=where.password, db=where.database, autocommit=True
    )
    cursor = connection.cursor()

    async def run(statement, *values):
        await cursor.execute(statement, values or None)
        return await cursor.fetchall() if cursor.description else cursor.rowcount

    yield run
    await connection.ensure_closed()


async def test_time_is_the_databases_in_any_zone_whatever_the_nodes_clocks_say(mysql_nodes, admin):
    ((zone,),) = await admin("SELECT @@global.time_zone")
    assert zone in {"+08:00", "-05:00"}
    early, late = await mysql_nodes(clock=ahead(3_600)), await mysql_nodes(clock=ahead(-3_600))
    now = time.time() * 1000
    await create(early, new("leased", lease_ms=600), due("later", due_in_ms=600))
    await create(late, due("now"))
    for store in (early, late):
        assert abs(store.now_ms() - time.time() * 1000) < 500
        for found in (await store.list(Filter(), 10)).records:
            assert abs(found.created_ms - now) < 1_000
    assert [claimed.record.gid for claimed in await early.claim("n", 10, 60_000)] == ["now"]
    assert await late.claim("n", 10, 60_000) == ()
    await asyncio.sleep(1)
    assert {claimed.record.gid for claimed in await late.claim("n", 10, 60_000)} >= {"later"}
    assert abs((await record(early, "now")).lease_until_ms - now - 60_000) < 2_000


def test_the_largest_time_stands_in_the_statements():
    text = "\n".join(load_statements(PACKAGE).values())
    assert f" {NEVER_MS}" in text
    assert text.count("90000000") == text.count(f" {NEVER_MS}")


async def test_many_nodes_migrate_at_once(mysql_nodes, admin):
    url = mysql_nodes.url
    assert await pending_migrations(url) == ("0001_initial",)
    assert await admin("SHOW TABLES") == ()
    stores = await asyncio.gather(*(open_store(url, clock=SystemClock(), failpoints=disarmed()) for _ in range(4)))
    assert await pending_migrations(url) == ()
    for store in stores:
        await store.close()
    assert len(await admin("SELECT * FROM reefknot_schema_version")) == 1


async def test_interrupted_migration_is_taken_up(mysql_nodes, admin):
    with pytest.raises(Exception, match=r"migrate\.step"):
        await mysql_nodes(failpoints=Failpoints({"migrate.step": "raise"}))
    assert await pending_migrations(mysql_nodes.url) == ("0001_initial",)
    store = await mysql_nodes()
    await admin("DELETE FROM reefknot_schema_version")  # as if it ended after its last table
    await create(store, new())
    assert (await record(await mysql_nodes())).gid == "order-1"


async def test_tables_of_other_versions(mysql_nodes, admin):
    """A newer program may add what this one does not need; it says so when it changes what this one does."""
    await mysql_nodes()
    await admin("INSERT INTO reefknot_schema_version VALUES (2, 'x', 1, 0)")
    await create(await mysql_nodes(), new())
    await admin("INSERT INTO reefknot_schema_version VALUES (3, 'x', 3, 0)")
    with pytest.raises(ConfigError, match="schema version 3, this program knows 1"):
        await mysql_nodes()


async def test_no_hot_statement_reads_or_sorts_the_table(mysql_nodes, admin):
    store = await mysql_nodes()
    await asyncio.gather(*(store.create(new(f"f{number}", status=Status.SUCCEED)) for number in range(3_000)))
    await create(store, *(due(f"d{number}") for number in range(20)))
    await admin("SET @now = 9000000000000, @batch = 1, @first_ms = 1, @first_id = 1")
    sql = load_statements(PACKAGE)
    filters = (0, NEVER_MS, NEVER_MS, NEVER_MS, 0, "", "", "", "", 5)
    fence = ("d1", "o", 1, "submitted", 1)
    asked = {
        "find_first_due": (0, 0, 0),
        "find_due": (100,),
        "find_later": (0, 100),
        "find_old": (1, 0, 500),
        "count_unfinished": (),
        "list_by_creation": filters,
        "list_failed": filters,
        "write_progress": (b"", 256, 0, "", 1, 1, 0, "", "", *fence),
        "lock": ("d1",),
        "get": ("d1",),
    }
    for name, values in asked.items():
        plan = await admin("EXPLAIN " + sql[name].replace("{ids}", "%s"), *values)
        (step,) = [step for step in plan if step[2] == "reefknot_tx"]
        # MySQL has a column for partitions, and another for filtered rows.
        (kind, _, key), extra = step[4:7] if len(step) == 12 else step[3:6], step[-1] or ""
        assert kind != "ALL", name
        assert key is not None, name
        assert "filesort" not in extra or name == "count_unfinished", (name, extra)


async def race(gid, client, decider):
    """Register six branches while another node decides; returns those acknowledged and not seen by the decision."""
    await create(client, prepared(gid))
    calls = [client.register(gid, "tcc", (row(str(number)),)) for number in range(6)]
    *answers, decided = await asyncio.gather(*calls, decider.decide(submit(gid)))
    acknowledged = {branch.branch_id for answer in answers if answer for branch in answer}
    assert decided is not None
    return acknowledged - {branch.branch_id for branch in decided.branches}


async def races(client, decider, count, name):
    async def some(part):
        return [len(await race(f"{name}-{part}-{number}", client, decider)) for number in range(count // 10)]

    return [unseen for found in await asyncio.gather(*map(some, range(10))) for unseen in found]


async def test_no_acknowledged_branch_is_unseen_by_the_decision(mysql_nodes):
    unseen = await races(await mysql_nodes(), await mysql_nodes(), 1_000, "locked")  # in each of two zones
    assert len(unseen) == 1_000
    assert sum(unseen) == 0


async def test_the_race_is_lost_without_the_lock(mysql_nodes):
    """Shows that the test above can fail."""
    client, decider = await mysql_nodes(), await mysql_nodes()
    for store in (client, decider):
        assert store._sql["lock"].endswith("FOR UPDATE")
        store._sql["lock"] = store._sql["lock"].removesuffix("FOR UPDATE")
    assert sum(await races(client, decider, 300, "unlocked")) > 0


async def claimed_gids(store, limit):
    return [claimed.record.gid for claimed in await store.claim("n", limit, 60_000)]


async def test_two_nodes_never_claim_the_same_epoch(mysql_nodes):
    stores = [await mysql_nodes(), await mysql_nodes()]
    await asyncio.gather(*(stores[0].create(due(f"g{number}")) for number in range(1_000)))
    claimed = []

    async def claiming(store, name):
        while found := await store.claim(name, 37, 400):
            claimed.extend((one.record.gid, one.record.epoch, name) for one in found)
            if len(claimed) > 5_000:
                return

    for _ in range(3):
        await asyncio.gather(*(claiming(store, f"n{n}-{i}") for n, store in enumerate(stores) for i in range(3)))
        await asyncio.sleep(0.45)
    pairs = [(gid, epoch) for gid, epoch, _ in claimed]
    assert len(pairs) == len(set(pairs)) >= 3_000
    assert {name[:2] for _, _, name in claimed} == {"n0", "n1"}
    last = {gid: (epoch, name) for gid, epoch, name in sorted(claimed, key=lambda found: found[1])}
    for gid in ("g0", "g999"):
        stored = await record(stores[1], gid)
        assert (stored.epoch, stored.owner) == last[gid]


async def test_claims_start_where_the_last_one_found_the_first_unfinished_row(mysql_nodes, admin):
    clock = ManualClock()
    store = await mysql_nodes("?clock=process", clock=clock)
    await store.create(due("leased", owner="other", lease_ms=300))
    await create(store, *(due(f"g{number}") for number in range(9)))
    await clock.advance(0.2)
    assert await claimed_gids(store, 2) == ["g0", "g1"]
    assert await claimed_gids(store, 2) == ["g2", "g3"]
    # A lease that ended is seen at once: its row is unfinished, so claims started there all the time.
    await clock.advance(0.2)
    assert await claimed_gids(store, 2) == ["leased", "g4"]
    assert await claimed_gids(store, 1) == ["g5"]
    # What is committed late, and due before that place, waits for the next look from the beginning.
    await admin("UPDATE reefknot_tx SET due_ms = 1, lease_until_ms = 0 WHERE gid IN ('g0', 'g1')")
    assert await claimed_gids(store, 1) == ["g6"]
    await clock.advance(1.0)
    assert await claimed_gids(store, 1) == ["g0"]
    assert await claimed_gids(store, 1) == ["g1"]
    assert await claimed_gids(store, 1) == ["g7"]
    # Too few from there on are no end: what came in before is looked for in the same transaction.
    await admin("UPDATE reefknot_tx SET due_ms = 1, lease_until_ms = 0 WHERE gid = 'g0'")
    assert await claimed_gids(store, 10) == ["g0", "g8"]
    assert await claimed_gids(store, 10) == []


async def test_a_purge_goes_on_where_it_came_to_and_misses_nothing(mysql_nodes, admin):
    clock = ManualClock()
    store = await mysql_nodes("?clock=process", clock=clock)
    for number in range(8):
        await store.create(new(f"g{number}", status=Status.SUCCEED))
        await clock.advance(0.01)
    await create(store, new("open"))
    await clock.advance(10.0)

    async def left():
        return [gid.decode() for (gid,) in await admin("SELECT gid FROM reefknot_tx ORDER BY id")]

    assert await store.purge(1_000, 2) == 2
    assert await left() == [*(f"g{number}" for number in range(2, 8)), "open"]
    # One that was committed late, before the place that the purge came to, is deleted at the end at the latest.
    await admin("UPDATE reefknot_tx SET finished_ms = 1 WHERE gid = 'g5'")
    assert await store.purge(1_000, 2) == 2
    assert await left() == ["g4", "g5", "g6", "g7", "open"]
    assert await store.purge(1_000, 4) == 4
    assert await left() == ["open"]
    assert await store.purge(1_000, 4) == 0
    # And after a second in any case.
    for number in range(3):
        await store.create(new(f"h{number}", status=Status.SUCCEED))
    await clock.advance(2.0)
    assert await store.purge(1_000, 1) == 1
    await admin("UPDATE reefknot_tx SET finished_ms = 1 WHERE gid = 'h2'")
    await clock.advance(1.0)
    assert await store.purge(1_000, 1) == 1
    assert await left() == ["open", "h1"]


async def test_claims_go_on_in_a_heap_of_one_due_time(mysql_nodes, admin):
    store = await mysql_nodes()
    await create(store, *(due(f"g{number}") for number in range(200)))
    await admin("UPDATE reefknot_tx SET due_ms = 1000")
    found = [await claimed_gids(store, 30) for _ in range(7)]
    assert [gid for gids in found for gid in gids] == [f"g{number}" for number in range(200)]
    await admin("SET @now = 9000000000000")
    statement = load_statements(PACKAGE)["find_first_due"]
    await admin("UPDATE reefknot_tx SET due_ms = 1000")
    await admin(statement, 1000, 1000, 150)
    ((first_ms, first_id, expected),) = await admin(
        "SELECT @first_ms, @first_id, MIN(id) FROM reefknot_tx WHERE id >= 150"
    )
    assert (first_ms, first_id) == (1000, expected)


async def test_same_gids_created_by_two_nodes(mysql_nodes):
    stores = [await mysql_nodes(), await mysql_nodes()]
    names = [f"g{number}" for number in range(300)]
    calls = [store.create(new(gid, owner=f"n{n}")) for n, store in enumerate(stores) for gid in names[:: 1 - 2 * n]]
    answers = await asyncio.gather(*calls)
    assert sum(isinstance(answer, Created) for answer in answers) == 300
    assert len(answers) == 600


async def test_a_deadlock_and_a_lock_wait_are_repeated(mysql_nodes, admin):
    store = await mysql_nodes()
    await create(store, new("a"), new("b"))
    await admin("BEGIN")
    await admin("UPDATE reefknot_tx SET mode = 'x' WHERE gid = 'b'")
    # Locks of many rows make the other one the cheaper victim.
    rows = ", ".join(f"(NULL, 'c', '{number}', 'v', 1, 0, 0)" for number in range(2_000))
    await admin(f"INSERT INTO reefknot_kv VALUES {rows}")
    waking = asyncio.ensure_future(store.wake(("a", "b")))
    await asyncio.sleep(0.3)
    await admin("UPDATE reefknot_tx SET mode = 'x' WHERE gid = 'a'")
    writing = asyncio.ensure_future(store.write(step("a")))
    await asyncio.sleep(2.5)  # longer than a statement waits for a lock
    assert not waking.done()
    assert not writing.done()
    await admin("COMMIT")
    assert await waking == 2
    assert await writing
    ((count,),) = await admin("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
    assert int(count) >= 1


async def test_cancelled_callers_leave_no_wrong_answers(mysql_nodes):
    store = await mysql_nodes("?connections=3")
    await create(store, *(new(f"g{number}") for number in range(20)))
    for number in range(100):
        call = asyncio.ensure_future(store.get(f"g{number % 20}"))
        await asyncio.sleep(0.0002 * (number % 7))
        call.cancel()
    assert [(await record(store, f"g{number}")).gid for number in range(20)] == [f"g{number}" for number in range(20)]


async def test_one_value_that_cannot_be_stored_fails_alone(mysql_nodes):
    store = await mysql_nodes()
    gids = [f"g{number}" for number in range(30)] + ["lone \ud800", "x" * 513, secrets.token_hex(10_000)]
    answers = await asyncio.gather(*(store.create(new(gid, owner="")) for gid in gids), return_exceptions=True)
    assert all(isinstance(answer, Created) for answer in answers[:30])
    assert all(isinstance(answer, ValueError) for answer in answers[30:])
    assert len((await store.list(Filter(), 100)).records) == 30


async def test_bodies_larger_than_a_packet_together_but_not_alone(mysql_nodes, admin):
    await admin("SET GLOBAL max_allowed_packet = 4194304")
    store = await mysql_nodes()
    body = bytes(range(256)) * 4_096  # 1 MiB of what is hardest to quote
    answers = await asyncio.gather(*(store.create(new(f"g{number}", body=body)) for number in range(12)))
    assert all(isinstance(answer, Created) for answer in answers)
    assert (await record(store, "g11")).body == body
    with pytest.raises(ValueError, match="packet"):
        await store.create(new("huge", body=b"x" * 5_000_000))
    done = await asyncio.gather(*(store.write(step(f"g{number}", progress=body)) for number in range(12)))
    assert done == [True] * 12
    await admin("SET GLOBAL max_allowed_packet = 16777216")


async def test_reports_of_one_gid_keep_their_order(mysql_nodes):
    store = await mysql_nodes()
    await create(store, new("a"), new("b"))
    answers = await asyncio.gather(*(store.write(step(gid)) for gid in "ab" * 20), store.write(finish("a")))
    assert answers == [True] * 41
    assert ((await record(store, "a")).version, (await record(store, "b")).version) == (22, 21)


async def test_texts_cannot_leave_their_quotes(mysql_nodes, admin):
    await admin("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'")
    store = await mysql_nodes()
    await admin("SET GLOBAL sql_mode = 'STRICT_TRANS_TABLES'")
    texts = ["'; DROP TABLE reefknot_tx; -- ", "\\'; DROP TABLE reefknot_tx; -- ", "%s %(a)s", "\\", '"', "\0\x1a\n\r"]
    await create(store, *(new(text, body=text.encode()) for text in texts))
    for text in texts:
        assert await store.write(step(text, reason=text, parked=text))
        stored = await record(store, text)
        assert (stored.gid, stored.body, stored.reason, stored.parked) == (text, text.encode(), text, text)


async def test_reports_of_any_size(mysql_nodes, admin):
    """A report keeps the length of its row, so that it is changed in place, and reads as it was written."""
    store = await mysql_nodes()
    await create(store, new())
    ((length,),) = await admin("SELECT LENGTH(progress) FROM reefknot_tx")
    for progress in (b"", b" ", b"a  ", b"\0", bytes(range(256)), b"x" * 257, b"y" * 100_000, b"z "):
        assert await store.write(step(progress=progress))
        assert (await record(store)).progress == progress
        if len(progress) <= 256:
            assert await admin("SELECT LENGTH(progress) FROM reefknot_tx") == ((length,),)


async def test_user_without_the_right_to_create(mysql_nodes, admin):
    where = parse_url(mysql_nodes.url)
    await admin(f"CREATE USER '{where.database}'@'%' IDENTIFIED BY 'p' ")
    await admin(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {where.database}.* TO '{where.database}'@'%'")
    url = f"mysql://{where.database}:p@127.0.0.1:{where.port}/{where.database}"
    with pytest.raises(ConfigError, match="reefknot migrate"):
        await open_store(url, clock=SystemClock(), failpoints=disarmed())
    owner = await mysql_nodes()
    store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    assert isinstance(await store.create(new()), Created)
    assert (await record(owner)).gid == "order-1"
    await store.ping()
    assert (await store.durability()).level == "full"
    await store.close()


async def test_reset_keeps_to_its_tables(mysql_nodes, admin):
    store = await mysql_nodes()
    await admin("CREATE TABLE kv (id INT)")
    await admin("INSERT INTO kv VALUES (1)")
    await asyncio.gather(*(store.create(new(f"g{number}")) for number in range(1_200)))
    assert await store.reset() == 1_200
    assert await admin("SELECT COUNT(*) FROM kv") == ((1,),)
    assert await store.reset() == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://h/db", "write mysql://"),
        ("mysql://u@h", "write mysql://"),
        ("mysql://u@h:x/db", "port must be a number"),
        ("mysql://u:secret#x@h/db", "has a # or an @ behind the server; in a user or password write"),
        ("mysql://u:secret?x@h/db", "port must be a number.* as %2F"),
        ("mysql://u:secret\uff1ax@h/db", "server cannot be read"),
        ("mysql://u:secret]x@h/db", "server cannot be read"),
        ("mysql://u:p@12/d?secret@h/db", r"unknown option \(in a user or password"),
        ("mysql://u:secret@h/db?sl=1", "unknown option 'sl'"),
        ("mysql://u:secret@h/db?timeout=x", "timeout must be a number"),
        ("mysql://u:secret@h/db?connections=1", "between 2 and"),
        ("mysql://u:secret@h/db?ssl=maybe", "ssl is one of"),
        ("mysql://u:secret@h/db?ssl_ca=/nowhere.pem", "ssl_ca: cannot read /nowhere.pem"),
        ("mysql://u:secret@h/db?ssl_cert=/c.pem&ssl_key=/k.pem", "ssl_cert without ssl .*add ssl=verify"),
        ("mysql://u:secret@h/db?ssl_key=/k.pem", "ssl_key is the key of a certificate; add ssl_cert"),
        ("mysql://u:secret@h/db?ssl=verify&ssl_key=/k.pem", "add ssl_cert"),
        ("mysql://u:secret@h/db?max_connections=4", r"max_connections \(Store.MaxOpenConns\) must be between 5"),
        ("mysql://u:secret@h/db?clock=mine", "clock must be"),
    ],
)
def test_wrong_urls(url, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


async def test_every_connection_busy(mysql_nodes):
    store = await mysql_nodes("?connections=2&timeout=0.5")
    held = asyncio.ensure_future(
        store._reading.run(lambda session: session.rows("SELECT SLEEP(5)"), seconds=1.5, commits=False)
    )
    await asyncio.sleep(0.1)
    with pytest.raises(StoreUnavailable, match="busy"):
        await store.get("a")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await held
    await asyncio.sleep(0.3)
    assert await store.get("a") is None


async def test_what_the_server_has_set_for_everybody_changes_nothing(mysql_nodes, admin):
    """With ``sql_select_limit`` reads ended after some rows: acknowledged branches were missing in the decision."""
    settings = {"sql_select_limit": 3, "completion_type": 2, "max_join_size": 5, "sql_safe_updates": 1}
    before = {name: (await admin(f"SELECT @@global.{name}"))[0][0] for name in settings}
    for name, value in settings.items():
        await admin(f"SET GLOBAL {name} = {value}")
    try:
        store = await mysql_nodes()
        await create(store, prepared())
        for number in range(10):
            assert await store.register("order-1", "tcc", (row(f"{number:02}"),))
        decided = await store.decide(submit())
        assert len(decided.branches) == len((await record(store)).branches) == 10
        await asyncio.gather(*(store.create(due(f"g{number}")) for number in range(20)))
        assert len((await store.list(Filter(), 15)).records) == 15
        assert len(await store.claim("n", 30, 60_000)) >= 20
        assert not isinstance(await store.create(new("g1")), Created)
        await store.kv_put("topics", "t", "v", 0)
        assert await store.reset() == 21
    finally:
        for name, value in before.items():
            await admin(f"SET GLOBAL {name} = '{value}'" if isinstance(value, str) else f"SET GLOBAL {name} = {value}")
