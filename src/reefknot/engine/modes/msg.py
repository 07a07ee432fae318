"""Two-phase message: deliver to every receiver once the sender's local commit is certain."""

from __future__ import annotations

from reefknot.engine.commands import Backoff, Call, Command, Move, Park, Retry
from reefknot.engine.mode import TOPIC_SCHEME, Mode, custom_fields
from reefknot.errors import Invalid
from reefknot.model import (
    Body,
    BranchOp,
    Failure,
    Ongoing,
    Op,
    Outcome,
    Snapshot,
    Status,
    Success,
    Transaction,
    TransactionRequest,
    Unknown,
)

#: The branch id of the query-back, which belongs to no branch.
QUERY_BRANCH = "00"
#: Ten years: longer delays are taken for a mistake in the unit.
DELAY_SECONDS_MAX = 10 * 365 * 86_400


class Msg(Mode):
    """A message with the guarantee of an outbox, without an outbox table."""

    name = "msg"

    def check(self, request: TransactionRequest) -> None:
        """The delay must be a number of seconds."""
        delay_seconds(request.custom_data)

    def topics(self, request: TransactionRequest) -> tuple[str, ...]:
        """The topics among the targets."""
        actions = (step.get(Op.ACTION, "") for step in request.steps)
        return tuple(action.removeprefix(TOPIC_SCHEME) for action in actions if action.startswith(TOPIC_SCHEME))

    def branches(self, body: Body) -> tuple[BranchOp, ...]:
        """One action for each target: a step, or each subscriber of the topic a step names."""
        ops: list[BranchOp] = []
        for number, (step, payload) in enumerate(zip(body.steps, body.payloads, strict=False), start=1):
            action = step.get(Op.ACTION, "")
            if not action.startswith(TOPIC_SCHEME):
                ops.append(BranchOp(f"{number:02d}", Op.ACTION, action, payload))
                continue
            urls = body.topics.get(action.removeprefix(TOPIC_SCHEME), ())
            for target, url in enumerate(urls, start=1):
                branch_id = f"{number:02d}-{target:02d}" if len(urls) > 1 else f"{number:02d}"
                ops.append(BranchOp(branch_id, Op.ACTION, url, payload))
        return tuple(ops)

    def abort(self, tx: Transaction, request: TransactionRequest) -> Move:
        """The sender's local transaction did not commit."""
        if tx.status is not Status.PREPARED or request.mode not in ("", tx.mode):
            raise self.cannot_abort(tx)
        return Move(Status.FAILED, request.reason)

    def decide(self, s: Snapshot, now_ms: int) -> list[Command]:
        """Ask back while prepared, deliver once submitted."""
        match s.tx.status:
            case Status.PREPARED:
                return self._ask_back(s.tx, now_ms)
            case Status.SUBMITTED:
                return self._deliver(s, now_ms)
            case _:
                return []

    def _ask_back(self, tx: Transaction, now_ms: int) -> list[Command]:
        if not tx.timed_out(now_ms):
            return [Retry(Backoff.KEEP, tx.created_ms + tx.body.timeout_seconds * 1000)]
        if not tx.body.query_prepared:
            return [Park("the message has no query_prepared URL, so nobody can say whether the sender committed")]
        return [Call(BranchOp(QUERY_BRANCH, Op.MSG, tx.body.query_prepared))]

    def _deliver(self, s: Snapshot, now_ms: int) -> list[Command]:
        due_ms = (s.tx.decided_ms or s.tx.created_ms) + delay_seconds(s.tx.body.custom_data) * 1000
        if now_ms < due_ms:
            return [Retry(Backoff.KEEP, due_ms)]
        waiting = [i for i, op in enumerate(s.ops) if op.status is Status.PREPARED]
        if not waiting:
            return [Move(Status.SUCCEED)]
        if not s.tx.body.options.concurrent:
            del waiting[1:]
        return [Call(s.ops[i], i) for i in waiting]

    def answered(self, s: Snapshot, call: Call, outcome: Outcome) -> list[Command]:
        """The query-back decides whether the message is sent; a target only ever succeeds."""
        if call.op.op != Op.MSG:
            return super().answered(s, call, outcome)
        match outcome:
            case Success():
                return [Move(Status.SUBMITTED)]
            case Failure(reason):
                return [Move(Status.FAILED, reason)]
            case Ongoing():
                return [Retry(Backoff.RESET)]
            case Unknown():
                return [Retry(Backoff.GROW)]


def delay_seconds(custom_data: str) -> int:
    """How long after the submit the message is delivered, from ``{"delay": seconds}``.

    Raises:
        Invalid: it is not a whole number of seconds from 0 to ten years.
    """
    delay = custom_fields(custom_data).get("delay") or 0
    if isinstance(delay, bool) or not isinstance(delay, int) or not 0 <= delay <= DELAY_SECONDS_MAX:
        raise Invalid("custom_data", f"delay is {delay!r}", f"send whole seconds from 0 to {DELAY_SECONDS_MAX}")
    return delay


mode = Msg()
