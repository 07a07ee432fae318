"""Saga: run every action; if one fails, compensate all that may have run, in reverse.

Theory of operation. Step i has two operations, stored as (compensate, action): positions 2i and
2i+1. An action is *ready* when every step it waits for has succeeded. What is ready may have been
called by a driver that crashed before it could record the answer, so a rollback compensates every
action that is ready or has an answer; one that was never ready cannot have been called. A
compensation waits for the compensations of the steps that came after it.
"""

from __future__ import annotations

import msgspec

from reefknot.engine.commands import Backoff, Call, Command, Move, Retry, Settle
from reefknot.engine.mode import Mode, custom_fields, timeout_reason
from reefknot.errors import Invalid
from reefknot.model import (
    Body,
    BranchOp,
    Failure,
    Op,
    Options,
    Outcome,
    Snapshot,
    Status,
    Transaction,
    TransactionRequest,
    Unknown,
)


class Saga(Mode):
    """Actions with compensations, in order or by a graph."""

    name = "saga"

    def check(self, request: TransactionRequest) -> None:
        """The order of the steps must be a graph without a cycle."""
        if request.custom_data:
            check_acyclic(predecessors(request.custom_data, len(request.steps)))

    def timeout_seconds(self, options: Options, default_seconds: int) -> int:
        """A saga has a time limit only if its client set one."""
        return options.timeout_seconds

    def first_visit_seconds(self, body: Body) -> int | None:
        """A prepared saga waits for its submit, for ever."""
        return None

    def deadline_ms(self, tx: Transaction) -> int:
        """The limit counts only while the saga goes forward."""
        if tx.status is Status.SUBMITTED and tx.body.timeout_seconds:
            return tx.created_ms + tx.body.timeout_seconds * 1000
        return 0

    def branches(self, body: Body) -> tuple[BranchOp, ...]:
        """A compensation and an action for each step, both with the step's payload."""
        ops = []
        for number, (step, payload) in enumerate(zip(body.steps, body.payloads, strict=False), start=1):
            branch_id = f"{number:02d}"
            ops.append(BranchOp(branch_id, Op.COMPENSATE, step.get(Op.COMPENSATE, ""), payload))
            ops.append(BranchOp(branch_id, Op.ACTION, step.get(Op.ACTION, ""), payload))
        return tuple(ops)

    def decide(self, s: Snapshot, now_ms: int) -> list[Command]:
        """Go forward, or back."""
        match s.tx.status:
            case Status.SUBMITTED if s.tx.timed_out(now_ms):
                return [Move(Status.ABORTING, timeout_reason(s.tx))]
            case Status.SUBMITTED:
                return forward(s)
            case Status.ABORTING:
                return backward(s, now_ms)
            case _:
                return []

    def answered(self, s: Snapshot, call: Call, outcome: Outcome) -> list[Command]:
        """A refused action rolls back; with a retry limit, so does one that was tried too often."""
        if call.op.op != Op.ACTION:
            return super().answered(s, call, outcome)
        limit = s.tx.body.options.retry_limit
        match outcome:
            case Failure(reason):
                return [Settle(call.index, Status.FAILED, f"url:{call.op.url} return failed: {reason}")]
            case Unknown() if limit and s.tx.status is Status.SUBMITTED:
                if call.op.tries <= limit:
                    return [Retry(Backoff.SOON)]
                return [Move(Status.ABORTING, f"RetryCount is greater than RetryLimit, RetryLimit: {limit}")]
            case _:
                return super().answered(s, call, outcome)

    def abort(self, tx: Transaction, request: TransactionRequest) -> Move:
        """A saga decides for itself; only a forced stop ends it from outside."""
        raise self.cannot_abort(tx)


def forward(s: Snapshot) -> list[Command]:
    """Start every ready action; move on when all succeeded or one failed."""
    actions = s.ops[1::2]
    waiting = []
    for i, op in enumerate(actions):
        if op.status is Status.FAILED:
            return [Move(Status.ABORTING, op.error or "fail message lost")]
        if op.status is Status.PREPARED:
            waiting.append(i)
    if not waiting:
        return [Move(Status.SUCCEED)]
    if not s.tx.body.custom_data:  # in order: only the first one can be ready
        return [Call(actions[waiting[0]], 2 * waiting[0] + 1)]
    before = predecessors(s.tx.body.custom_data, len(actions))
    return [Call(actions[i], 2 * i + 1) for i in waiting if ready(actions, before[i])]


def backward(s: Snapshot, now_ms: int) -> list[Command]:
    """Start every compensation that nothing holds back; the end is reached when all are done."""
    undos, actions = s.ops[0::2], s.ops[1::2]
    before = predecessors(s.tx.body.custom_data, len(actions))
    may_have_run = [op.status is not Status.PREPARED or ready(actions, before[i]) for i, op in enumerate(actions)]
    todo = {i for i, ran in enumerate(may_have_run) if ran and undos[i].status is not Status.SUCCEED}
    if not todo:
        return [Move(Status.FAILED)]
    if now_ms < s.unsettled_until_ms and any(may_still_run(s, actions[i]) for i in todo):
        return [Retry(Backoff.KEEP, s.unsettled_until_ms)]
    held = {j for i in todo for j in before[i]}
    return [Call(undos[i], 2 * i) for i in sorted(todo - held, reverse=True)]


def may_still_run(s: Snapshot, action: BranchOp) -> bool:
    """Whether a call of the vanished driver may be under way: there was no answer when it vanished.

    An answer to a later call of the same action says nothing about that one.
    """
    return action.status is Status.PREPARED or action.changed_ms >= s.unsettled_from_ms


def ready(actions: tuple[BranchOp, ...], before: tuple[int, ...]) -> bool:
    """Whether every action that must come first has succeeded."""
    return all(actions[j].status is Status.SUCCEED for j in before)


def predecessors(custom_data: str, steps: int) -> list[tuple[int, ...]]:
    """For each step, the steps it waits for.

    ``custom_data`` is ``{"concurrent": bool, "orders": {"2": [0, 1]}}`` with zero-based indexes;
    without ``concurrent`` each step also waits for the one before it.

    Raises:
        Invalid: a member has the wrong form, or an index is out of range.
    """
    if not custom_data:
        return [(i - 1,) if i else () for i in range(steps)]
    custom = custom_fields(custom_data)
    concurrent, orders = custom.get("concurrent") or False, custom.get("orders") or {}
    if not isinstance(concurrent, bool):
        raise Invalid("custom_data", f"concurrent is {concurrent!r}", "send true or false")
    try:
        graph = msgspec.convert(orders, dict[int, list[int] | None], strict=False)
    except msgspec.ValidationError as error:
        raise Invalid("custom_data", f"orders: {error}", 'send {"orders": {"2": [0, 1]}}') from error
    for step, earlier in graph.items():
        for index in (step, *(earlier or ())):
            if not 0 <= index < steps:
                raise Invalid("custom_data", f"orders names step {index}", f"the {steps} steps count from 0")
    chain: list[tuple[int, ...]] = [() if concurrent or not i else (i - 1,) for i in range(steps)]
    return [tuple({*chain[i], *(graph.get(i) or ())}) for i in range(steps)]


def check_acyclic(before: list[tuple[int, ...]]) -> None:
    """Refuse an order in which a step, through others, waits for itself.

    Raises:
        Invalid: there is a cycle; the message names a step in it.
    """
    open_edges = [len(earlier) for earlier in before]
    after: list[list[int]] = [[] for _ in before]
    for step, earlier in enumerate(before):
        for j in earlier:
            after[j].append(step)
    free = [i for i, count in enumerate(open_edges) if not count]
    for step in free:
        for later in after[step]:
            open_edges[later] -= 1
            if not open_edges[later]:
                free.append(later)
    if len(free) < len(before):
        stuck = next(i for i, count in enumerate(open_edges) if count)
        raise Invalid("custom_data", f"orders make step {stuck} wait for itself", "remove the cycle")


mode = Saga()
