"""Any sequence of operations leaves every store and memory with the same answers and the same content."""

import asyncio
import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec import Struct
from msgspec.structs import replace

from reefknot.failpoints import disarmed
from reefknot.model import KeyValue, Status
from reefknot.store import open_store
from reefknot.store.base import (
    NEVER_MS,
    BranchRow,
    Created,
    Decision,
    Filter,
    KeyValuePage,
    NewTransaction,
    Page,
    Record,
    Write,
)
from reefknot.testing.clock import ManualClock

GIDS = st.sampled_from(["order-1", "order-10", "order-1-refund", "Order-1", "order-1 ", "órder-1"])
MODES = st.sampled_from(["saga", "tcc"])
OWNERS = st.sampled_from(["", "a", "b"])
EPOCHS = st.integers(1, 3)
STATUSES = st.sampled_from(list(Status))
UNFINISHED = st.sampled_from([Status.PREPARED, Status.PREPARED, Status.SUBMITTED, Status.ABORTING])
LEASES = st.sampled_from([0, 1, 1_000, 8_000])
DUE = st.sampled_from([0, 1, 500, 1_000, 9_000, NEVER_MS])
TEXTS = st.sampled_from(["", "x", "ä😀", "a\0\1\2"])
BODIES = st.sampled_from([b"", b"small", b"L" * 5_000, b"M" * 4_000])
LIMITS = st.integers(0, 4)
KEYS = st.sampled_from(["", "a", "A", "é", "z", "\0", "\1", "\1\1", "\2"])
BRANCHES = st.lists(
    st.builds(BranchRow, st.sampled_from(["01", "02", "1"]), st.sampled_from(["confirm", "cancel"]), TEXTS),
    max_size=3,
    unique_by=lambda branch: (branch.branch_id, branch.op),
).map(tuple)


def comparable(answer):
    """An answer without the numbers that each store chooses for itself."""
    if isinstance(answer, Page):
        return [comparable(found) for found in answer.records], bool(answer.position)
    if isinstance(answer, KeyValuePage):
        return [comparable(entry) for entry in answer.entries], answer.position
    if isinstance(answer, (Record, Created, KeyValue)):
        return replace(answer, id=0)
    if isinstance(answer, tuple):
        return [comparable(part) for part in answer]
    if isinstance(answer, Struct) and isinstance(getattr(answer, "record", None), Record):
        return replace(answer, record=comparable(answer.record))
    return answer


class Differential(RuleBasedStateMachine):
    """Memory and another store, moved by the same clock."""

    def __init__(self, url):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.stores = [self.opened("memory://"), self.opened(url)]
        self.loop.run_until_complete(self.stores[1].reset())

    def opened(self, url):
        return self.loop.run_until_complete(open_store(url, clock=self.clock, failpoints=disarmed()))

    def teardown(self):
        for store in self.stores:
            self.loop.run_until_complete(store.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def same(self, method, *arguments):
        answers = [
            comparable(self.loop.run_until_complete(getattr(store, method)(*arguments))) for store in self.stores
        ]
        assert answers[0] == answers[1], (method, arguments)
        return answers[0]

    @rule(seconds=st.sampled_from([0.001, 0.5, 1, 8, 100]))
    def advance(self, seconds):
        self.loop.run_until_complete(self.clock.advance(seconds))

    @rule(gid=GIDS, mode=MODES, status=UNFINISHED, body=BODIES, owner=OWNERS, lease=LEASES, due=DUE)
    def create(self, gid, mode, status, body, owner, lease, due):
        self.same("create", NewTransaction(gid, mode, status, body, b"hash", owner, lease, due))

    @rule(gid=GIDS, status=STATUSES, text=TEXTS, lease=LEASES, due=st.one_of(st.just(-1), DUE), honest=st.booleans())
    def write(self, gid, status, text, lease, due, honest):
        stored = self.loop.run_until_complete(self.stores[0].get(gid))
        if stored is None or not honest:
            holder = ("a", 1, Status.SUBMITTED)
        else:
            holder = (stored.owner, stored.epoch, stored.status)
        self.same("write", Write(gid, *holder, status, text.encode(), len(text), text, text[:1], lease, due))

    @rule(
        gid=GIDS,
        expect=st.lists(STATUSES, max_size=4).map(tuple),
        status=STATUSES,
        text=TEXTS,
        body=BODIES,
        mode=st.one_of(st.just(""), MODES),
    )
    def decide(self, gid, expect, status, text, body, mode):
        due = len(text) * 700
        self.same("decide", Decision(gid, expect, status, text, text, body, text.encode(), "b", 1_000, due, mode))

    @rule(gid=GIDS, mode=MODES, branches=BRANCHES, due=st.one_of(st.just(-1), DUE))
    def register(self, gid, mode, branches, due):
        self.same("register", gid, mode, branches, due)

    @rule(owner=st.sampled_from(["a", "b"]), limit=LIMITS, lease=st.sampled_from([1, 1_000, 8_000]))
    def claim(self, owner, limit, lease):
        self.same("claim", owner, limit, lease)

    @rule(owner=OWNERS, held=st.lists(st.tuples(GIDS, EPOCHS), max_size=4).map(tuple), lease=LEASES)
    def renew(self, owner, held, lease):
        self.same("renew", owner, held, lease)

    @rule(owner=OWNERS)
    def release(self, owner):
        self.same("release", owner)

    @rule(gids=st.lists(GIDS, max_size=3).map(tuple))
    def wake(self, gids):
        self.same("wake", gids)

    @rule(later=st.sampled_from([0, 500, 8_000]), limit=LIMITS)
    def wake_later(self, later, limit):
        self.same("wake_later", later, limit)

    @rule(older=st.sampled_from([0, 1, 1_000, 50_000]), limit=LIMITS)
    def purge(self, older, limit):
        self.same("purge", older, limit)

    @rule(status=st.one_of(st.just(""), STATUSES), mode=st.one_of(st.just(""), MODES), back=st.sampled_from([0, 1_000]))
    def list(self, status, mode, back):
        wanted = Filter(status, mode, self.clock.now_ms() - back if back else 0)
        self.same("list", wanted, 3)

    @rule(key=KEYS, value=TEXTS, version=st.integers(0, 3))
    def kv_put(self, key, value, version):
        self.same("kv_put", "topics", key, value, version)

    @rule(key=KEYS)
    def kv_delete(self, key):
        self.same("kv_delete", "topics", key)

    @rule(limit=LIMITS)
    def kv_list(self, limit):
        self.same("kv_list", "topics", limit)

    @invariant()
    def same_content(self):
        self.same("list", Filter(), 100)
        self.same("stats")
        for gid in ("order-1", "Order-1"):
            self.same("get", gid)


#: Sequences for each store; before a release, DIFFERENTIAL_SEQUENCES=300.
SEQUENCES = int(os.environ.get("DIFFERENTIAL_SEQUENCES", "100"))
SETTINGS = settings(max_examples=SEQUENCES, stateful_step_count=30, deadline=None)


def test_sqlite(tmp_path):
    run_state_machine_as_test(lambda: Differential(f"sqlite:///{tmp_path / 'x.db'}"), settings=SETTINGS)


def test_postgres(postgres):
    url = f"{postgres.url}?schema=differential&clock=process&connections=1"
    run_state_machine_as_test(lambda: Differential(url), settings=SETTINGS)


def test_mysql(mysql):
    run_state_machine_as_test(lambda: Differential(f"{mysql.url}?clock=process&connections=2"), settings=SETTINGS)


def test_redis(redis):
    url = f"{redis.url}?prefix=differential&clock=process"
    run_state_machine_as_test(lambda: Differential(url), settings=SETTINGS)


def test_redis_cluster(redis_cluster):
    url = f"{redis_cluster.url}?prefix=differential&clock=process"
    run_state_machine_as_test(lambda: Differential(url), settings=SETTINGS)
