"""Two nodes over one memory store, in time that a seed decides about.

Time is virtual: a run takes as long as its work, and a seed gives the same schedule again. The
store's answers are late now and then, and some calls last longer than a lease, so drivers lose
transactions in mid-work.
"""

import asyncio
import contextvars
import random
from itertools import count

from msgspec.structs import replace

from reefknot.callers import Callers
from reefknot.config import Config
from reefknot.coordinator.records import details
from reefknot.coordinator.settings import Settings
from reefknot.engine.registry import discover
from reefknot.errors import ReefknotError
from reefknot.failpoints import Failpoints
from reefknot.model import BranchRequest, Failure, Ongoing, Options, Success, TransactionRequest, Unknown
from reefknot.node import Node
from reefknot.store.base import Created
from reefknot.store.memory import MemoryStore
from reefknot.testing.clock import ManualClock
from reefknot.testing.effects import Effects
from reefknot.testing.history import Ack, Call, History, Written, stored
from reefknot.wire.replies import query_reply

REQUEST_TIMEOUT_SECONDS = 1
#: The longest that a seed's transactions take in virtual time.
MOST_SECONDS = 180


class UnfencedStore(MemoryStore):
    """A store with the defect that fencing is there to prevent: any driver's write is taken."""

    async def write(self, write):
        record = self._records.get(write.gid)
        if record is None or record.finished_ms:
            return False
        seen = write.version or record.version
        self._records[write.gid] = replace(record, owner=write.owner, epoch=write.epoch, version=seen)
        return await super().write(write)

    async def renew(self, owner, held, lease_ms):
        return frozenset(gid for gid, _ in held)


class PausingStore:
    """One node's way to the store: slow now and then, in both directions, and with a log of its writes."""

    def __init__(self, inner, world, lease_seconds):
        self._inner = inner
        self._world = world
        self._lease_seconds = lease_seconds

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def _travel(self):
        rng = self._world.rng
        if rng.random() < 0.04:
            await self._world.clock.sleep(self._lease_seconds * rng.uniform(0.3, 2.5))
        elif rng.random() < 0.5:
            await self._world.clock.sleep(rng.uniform(0.001, 0.005))

    async def create(self, new):
        await self._travel()
        found = await self._inner.create(new)
        if isinstance(found, Created):
            await self._world.note(new.gid, new.owner, 1, accepted=True)
        await self._travel()
        return found

    async def decide(self, decision):
        await self._travel()
        record = await self._inner.decide(decision)
        if record:
            await self._world.note(decision.gid, record.owner, record.epoch, accepted=True)
        await self._travel()
        return record

    async def claim(self, owner, limit, lease_ms):
        await self._travel()
        claimed = await self._inner.claim(owner, limit, lease_ms)
        for one in claimed:
            await self._world.note(one.record.gid, owner, one.record.epoch, accepted=True)
            self._world.takeovers += bool(one.abandoned_ms)
        await self._travel()
        return claimed

    async def write(self, write):
        await self._travel()
        accepted = await self._inner.write(write)
        if accepted:
            await self._world.note(write.gid, write.owner, write.epoch, accepted=True)
        await self._travel()
        if not accepted:  # what counts is when the driver learns of it
            await self._world.note(write.gid, write.owner, write.epoch, accepted=False)
        return accepted

    async def renew(self, owner, held, lease_ms):
        await self._travel()
        kept = await self._inner.renew(owner, held, lease_ms)
        await self._travel()
        return kept


class ScriptedCaller:
    """Calls participants that exist only here. What a participant began it finishes, whoever hangs up."""

    def __init__(self, world, owner):
        self._world = world
        self._owner = owner

    def accepts(self, protocol, url):
        return True

    def check(self, url):
        return ""

    async def close(self):
        return

    async def call(self, call):
        world = self._world
        position = len(world.calls)
        world.calls.append(
            Call(
                call.gid, call.branch_id, call.op, world.stamp(), result="", owner=self._owner, epoch=world.epoch.get()
            )
        )
        answer = asyncio.get_running_loop().create_future()
        world.background.add(asyncio.ensure_future(self._participant(call, position, answer)))
        patience = asyncio.ensure_future(world.clock.sleep(call.timeout_seconds))
        try:
            await asyncio.wait((answer, patience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
        return answer.result() if answer.done() else Unknown("no answer in time", unreachable=True)

    async def _participant(self, call, position, answer):
        world = self._world
        await world.clock.sleep(world.duration())
        outcome, result = Success(), "success"
        if call.url.endswith("/refuse") and call.op == "action":
            outcome, result = Failure("refused"), "failure"
        elif world.rng.random() < 0.05:
            outcome, result = Ongoing(), "ongoing"
        elif world.rng.random() < 0.05:
            outcome, result = Unknown("HTTP 500"), "unclear"
        else:
            world.effects.apply(call.gid, call.branch_id, call.op)
        world.finish_call(position, result)
        if not answer.done():
            answer.set_result(outcome)


class World:
    """Nodes, clients and participants of one seed."""

    def __init__(self, seed, *, fenced=True, nodes=2):
        self.rng = random.Random(seed)
        self.clock = ManualClock()
        self.modes = discover()
        self.epoch = contextvars.ContextVar("epoch", default=0)
        self.calls, self.acks, self.writes = [], [], []
        self.forced, self.background = set(), set()
        self.takeovers = 0
        self._order = count()
        self.effects = Effects(self.stamp)
        self.lease_seconds = self.rng.uniform(0.05, 0.3)
        self.store = (MemoryStore if fenced else UnfencedStore)(self.clock, Failpoints())
        self.nodes = [self._node(f"node-{number}") for number in range(nodes)]

    def stamp(self):
        """The time in milliseconds, different and later at each call."""
        return self.clock.now_ms() + next(self._order) * 1e-7

    async def note(self, gid, owner, epoch, *, accepted):
        """Note a change of a transaction's state, or that it was refused."""
        record = await self.store.get(gid)
        ops = details(self.modes[record.mode], record, 0).ops if accepted else ()
        settled = frozenset(index for index, op in enumerate(ops) if op.status != "prepared")
        self.writes.append(Written(gid, owner, epoch, accepted, self.stamp(), record.version, settled))

    def finish_call(self, position, result):
        """Note what the participant answered."""
        self.calls[position] = replace(self.calls[position], ended_ms=self.stamp(), result=result)

    def duration(self):
        """How long a participant takes: now and then longer than a lease, or than the time limit."""
        lot = self.rng.random()
        if lot < 0.02:
            return REQUEST_TIMEOUT_SECONDS * self.rng.uniform(1, 1.5)
        if lot < 0.15:
            return min(self.lease_seconds * self.rng.uniform(0.8, 3), REQUEST_TIMEOUT_SECONDS * 0.9)
        return self.rng.uniform(0.001, 0.05)

    def _node(self, owner):
        settings = Settings(
            lease_seconds=self.lease_seconds,
            lease_margin_seconds=self.lease_seconds / 8,
            renew_seconds=self.lease_seconds * 0.3,
            poll_seconds=self.lease_seconds,
            request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
            retry_seconds=1,
            retry_max_seconds=4,
            timeout_seconds=5,
            topic_refresh_seconds=60.0,
            finished_keep_seconds=0,
        )
        node = Node(
            Config(),
            PausingStore(self.store, self, self.lease_seconds),
            clock=self.clock,
            failpoints=Failpoints(),
            rng=self.rng,
            owner=owner,
            settings=settings,
            branch_callers=Callers([ScriptedCaller(self, owner)]),
        )
        runner = node.driving._runner
        call_branch = runner._call

        async def with_epoch(drive, call):
            self.epoch.set(drive.epoch)
            return await call_branch(drive, call)

        runner._call = with_epoch
        return node

    async def run(self, transactions):
        """Run clients until everything acknowledged has ended; returns the history."""
        for node in self.nodes:
            await node.start()
        clients = [asyncio.ensure_future(self._client(number)) for number in range(transactions)]
        while self.clock.monotonic() < MOST_SECONDS and not (all(c.done() for c in clients) and self._all_ended()):
            await self._step(0.01)
        await self._step(3 * REQUEST_TIMEOUT_SECONDS)  # whoever still calls shows now
        for node in self.nodes:
            await node.tasks.cancel_all()
        await asyncio.gather(*clients)
        return await self.history()

    async def _step(self, seconds):
        await asyncio.sleep(0)
        await self.clock.advance(seconds)

    def _all_ended(self):
        return all((record := self.store._records.get(ack.gid)) is None or record.finished_ms for ack in self.acks)

    async def history(self):
        records = self.store._records.values()
        final = [stored(query_reply(details(self.modes[record.mode], record, 0))) for record in records]
        return History(
            acks=tuple(self.acks),
            calls=tuple(self.calls),
            final=tuple(final),
            effects=self.effects.all,
            writes=tuple(self.writes),
            forced=frozenset(self.forced),
            request_timeout_ms=REQUEST_TIMEOUT_SECONDS * 1000,
            lease_ms=self.lease_seconds * 1000,
            slack_ms=1,
        )

    # --- clients ----------------------------------------------------------------------------------

    async def _client(self, number):
        await self.clock.sleep(self.rng.uniform(0, 10))
        kind = ("saga", "refused", "orders", "msg", "tcc", "abort")[number % 6]
        gid = f"{kind}-{number}"
        if kind in ("tcc", "abort"):
            await self._tcc(gid, kind)
        else:
            await self._ask("submit", self._submit(gid, kind))
        if self.rng.random() < 0.08:
            await self.clock.sleep(self.rng.uniform(0, 0.5))
            self.forced.add(gid)
            await self._ask("force_stop", gid)

    def _submit(self, gid, kind):
        paths = ("/1", "/2", "/refuse" if kind in ("refused", "orders") else "/3", "/4")
        mode = "msg" if kind == "msg" else "saga"
        custom = '{"concurrent":true,"orders":{"2":[0],"3":[0,1]}}' if kind == "orders" else ""
        steps = tuple({"action": f"http://p{path}", "compensate": f"http://p{path}-undo"} for path in paths)
        if mode == "msg":
            steps = tuple({"action": step["action"]} for step in steps)
        options = Options(retry_seconds=1)
        payloads = (b"{}",) * len(steps)
        return TransactionRequest(gid, mode, steps, payloads, custom_data=custom, options=options)

    async def _tcc(self, gid, kind):
        request = TransactionRequest(gid, "tcc", options=Options(retry_seconds=1))
        if not await self._ask("prepare", request):
            return
        for branch_id in ("01", "02"):
            urls = {"confirm": "http://p/confirm", "cancel": "http://p/cancel"}
            rows = ((branch_id, "cancel"), (branch_id, "confirm"))
            if not await self._ask("register", BranchRequest(gid, "tcc", branch_id, b"{}", urls), rows=rows):
                return
            self.effects.apply(gid, branch_id, "try")
        verb, ends = ("submit", "succeed") if kind == "tcc" else ("abort", "failed")
        await self._ask(verb, request, ends=ends)

    async def _ask(self, verb, request, *, ends="", rows=()):
        """Ask a node; whether it was acknowledged."""
        node = self.rng.choice(self.nodes)
        try:
            await getattr(node.coordinator, verb)(request)
        except ReefknotError:
            return False
        gid = request if isinstance(request, str) else request.gid
        self.acks.append(Ack(verb, gid, ends, rows))
        return True
