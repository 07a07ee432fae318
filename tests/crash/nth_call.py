"""One transaction on a node whose n-th store call fails, in virtual time."""

import asyncio
from itertools import count

from races.world import ScriptedCaller, World
from reefknot.callers import Callers
from reefknot.config import Config
from reefknot.coordinator.settings import Settings
from reefknot.errors import Refused, StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.model import BranchRequest, Failure, Options, Success, TransactionRequest
from reefknot.node import Node
from reefknot.store.base import Created
from reefknot.testing.history import Ack

REQUEST_TIMEOUT_SECONDS = 1
MODES = (
    "saga",
    "saga-rollback",
    "msg-submit",
    "msg-query",
    "msg-abort",
    "tcc-confirm",
    "tcc-cancel",
    "tcc-timeout",
    "xa-commit",
    "xa-rollback",
    "workflow",
    "workflow-failed",
)
WAYS = ("before", "after", "hang")
CALLS = frozenset({"create", "write", "decide", "register", "get", "claim", "renew", "release", "wake", "kv_get"})


class FailingStore:
    """Counts its calls; one of them fails.

    ``before``: nothing is done. ``after``: it is done, but its answer is lost. ``hang``: it is done
    and answered a second late. ``late``: its answer is lost, and it is done a good while later.
    """

    def __init__(self, inner, world, fails_at, way):
        self._inner = inner
        self._world = world
        self._fails_at = fails_at
        self._way = way
        self.calls = 0

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        return self._counted(name, method) if name in CALLS else method

    def _counted(self, name, method):
        async def call(*args):
            self.calls += 1
            fails = self.calls == self._fails_at
            if fails and self._way == "before":
                raise StoreUnavailable("the store is away")
            if fails and self._way == "late":
                self._world.background.add(asyncio.ensure_future(self._later(name, method, args)))
                raise StoreUnavailable("the connection to the store was lost")
            result = await method(*args)
            await self._note(name, args, result)
            if fails and self._way == "hang":
                await self._world.clock.sleep(1)
            elif fails:
                raise StoreUnavailable("the answer of the store was lost")
            return result

        return call

    async def _later(self, name, method, args):
        await self._world.clock.sleep(0.5)
        await self._note(name, args, await method(*args))

    async def _note(self, name, args, result):
        """Note what the call changed."""
        note = self._world.note
        if name == "create" and isinstance(result, Created):
            await note(args[0].gid, args[0].owner, 1, accepted=True)
        elif name == "write":
            await note(args[0].gid, args[0].owner, args[0].epoch, accepted=result)
        elif name == "decide" and result:
            await note(result.gid, result.owner, result.epoch, accepted=True)
        elif name == "claim":
            for one in result:
                await note(one.record.gid, one.record.owner, one.record.epoch, accepted=True)


class Business(ScriptedCaller):
    """Participants that answer at once: refusals at ``/refuse``, a workflow's own process at ``/workflow``."""

    async def _participant(self, call, position, answer):
        world = self._world
        await world.clock.sleep(0.2)
        outcome, result = Success(), "success"
        if call.url.endswith("/workflow"):
            await world.resume_workflow()
        elif call.url.endswith("/refuse") and call.op == "action":
            outcome, result = Failure("refused"), "failure"
        elif call.op != "msg":
            world.effects.apply(call.gid, call.branch_id, call.op)
        world.finish_call(position, result)
        if not answer.done():
            answer.set_result(outcome)


class FailingWorld(World):
    """A node on a failing store with one client, which repeats every request whose answer was lost."""

    def __init__(self, mode, fails_at, way):
        self.mode = mode
        self._fault = fails_at, way
        super().__init__(1, nodes=1)
        self.failing = self.nodes[0].coordinator._store

    def _node(self, owner):
        settings = Settings(
            timeout_seconds=3,
            retry_seconds=1,
            request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
            lease_seconds=2.0,
            lease_margin_seconds=0.25,
            renew_seconds=0.6,
            finished_keep_seconds=0,
            topic_refresh_seconds=600.0,
        )
        return Node(
            Config(),
            FailingStore(self.store, self, *self._fault),
            clock=self.clock,
            failpoints=Failpoints(),
            rng=self.rng,
            owner=owner,
            settings=settings,
            branch_callers=Callers([Business(self, owner)]),
        )

    async def _client(self, number):
        gid = self.mode
        kind, _, path = self.mode.partition("-")
        options = Options(retry_seconds=1)
        if kind in ("tcc", "xa"):
            await self._two_phase(TransactionRequest(gid, kind, options=options), path)
        elif kind == "workflow":
            custom = '{"name":"transfer","data":null}'
            workflow = TransactionRequest(
                gid, kind, query_prepared="http://p/workflow", custom_data=custom, options=options
            )
            await self._repeat("prepare_workflow", workflow)
        else:
            steps = tuple({"action": f"http://p/{one}", "compensate": "http://p/undo"} for one in ("1", "2"))
            if path == "rollback":
                steps = (*steps, {"action": "http://p/refuse", "compensate": "http://p/undo"})
            query = "http://p/query" if kind == "msg" else ""
            request = TransactionRequest(gid, kind, steps, (b"{}",) * len(steps), query, options=options)
            await self._saga_or_msg(request, path)

    async def _saga_or_msg(self, request, path):
        if request.mode == "saga":
            # A repetition that comes after the rollback began is told so.
            await self._repeat("submit", request, late=path == "rollback")
            return
        await self._repeat("prepare", request, ends={"query": "succeed"}.get(path, ""))
        if path != "query":
            verb, ends = ("submit", "succeed") if path == "submit" else ("abort", "failed")
            await self._repeat(verb, request, ends=ends, late=verb == "abort")

    async def _two_phase(self, request, path):
        await self._repeat("prepare", request)
        for branch_id in ("01", "02"):
            urls = {"confirm": "http://p/ok", "cancel": "http://p/ok", "url": "http://p/ok"}
            back, forth = ("cancel", "confirm") if request.mode == "tcc" else ("rollback", "commit")
            branch = BranchRequest(request.gid, request.mode, branch_id, b"{}", urls)
            await self._repeat("register", branch, rows=((branch_id, back), (branch_id, forth)))
            self.effects.apply(request.gid, branch_id, "try" if request.mode == "tcc" else "action")
        if path != "timeout":
            verb, ends = ("submit", "succeed") if path in ("confirm", "commit") else ("abort", "failed")
            await self._repeat(verb, request, ends=ends, late=verb == "abort")

    async def resume_workflow(self):
        """The workflow's own process: records its step and reports the end."""
        status = "failed" if self.mode.endswith("failed") else "succeed"
        fields = {"op": "action", "status": status}
        step = BranchRequest(self.mode, "workflow", "01", b"{}", fields)
        self.effects.apply(self.mode, "01", "action")
        await self._repeat("register", step, rows=(("01", "action"),), late=True)
        end = TransactionRequest(self.mode, "workflow", extra={"status": status})
        await self._repeat("submit", end, ends=status)

    async def _repeat(self, verb, request, *, ends="", rows=(), late=False):
        """Send a request until it is answered. ``late``: a refusal of a repetition is an answer too."""
        for attempt in count(1):
            try:
                await getattr(self.nodes[0].coordinator, verb)(request)
                break
            except StoreUnavailable:
                await self.clock.sleep(0.1)
            except Refused:
                assert late and attempt > 1, f"{verb} was refused"  # noqa: PT018 - one rule
                break
        self.acks.append(Ack(verb, request.gid, ends, rows))


async def run(mode, fails_at, way):
    """Run one transaction; its history, and whether the failing call came at all."""
    world = FailingWorld(mode, fails_at, way)
    history = await world.run(1)
    for task in world.background:
        task.cancel()
    await asyncio.gather(*world.background, return_exceptions=True)
    return history, world.failing.calls >= fails_at
