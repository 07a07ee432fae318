"""The offline checker: do the promises hold in what clients, participants and the store report?

Inputs are plain values that any test can collect: what clients had acknowledged, what participants
were called with, what their business did, and the final state as the API shows it. A test with the
store at hand adds the writes that drivers tried. All times are milliseconds on one clock.

    I1   what was acknowledged is there, and the decision that was acknowledged stands
    I2   what was acknowledged has ended
    I3   ``succeed`` means that every required operation was answered with success
    I4   ``failed`` means that every action that took effect was undone
    I5   never confirm and cancel, nor commit and rollback
    I6   the order of the steps, and the reverse order of their compensations
    I7   no compensation before the action was answered or timed out; none for what was never due
    I8   no call starts after the end
    I9   accepted writes form one chain: epochs do not fall, versions have no gap, nothing is unsettled
    I10  no call by a driver after its refused write
    I11  at most one effect for each operation
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from reefknot.testing.history import SUCCESS, Ack, Call, Effect, History, Stored, Written

#: Operations that a successful transaction needs, in modes whose branches the server calls.
FORWARD = ("action", "confirm", "commit")
#: What undoes an action, by mode.
UNDO = {"saga": {"action": "compensate"}, "tcc": {"try": "cancel"}, "xa": {"action": "rollback"}}
OPPOSITES = (("confirm", "cancel"), ("commit", "rollback"))
#: From each status to those that may follow it.
NEXT = {
    "prepared": {"prepared", "submitted", "aborting", "succeed", "failed"},
    "submitted": {"submitted", "aborting", "succeed", "failed"},
    "aborting": {"aborting", "failed"},
    "succeed": {"succeed"},
    "failed": {"failed"},
}
FINAL = ("succeed", "failed")


class _Case(msgspec.Struct, frozen=True):
    """One transaction with everything the run has on it."""

    run: History
    gid: str
    stored: Stored | None
    acks: tuple[Ack, ...]
    calls: tuple[Call, ...]
    effects: tuple[Effect, ...] | None
    writes: tuple[Written, ...]
    seen: tuple[Stored, ...]

    def of(self, branch_id: str, op: str) -> list[Call]:
        """The calls of one operation, the earliest first."""
        return [call for call in self.calls if (call.branch_id, call.op) == (branch_id, op)]

    @property
    def forced(self) -> bool:
        return self.gid in self.run.forced


def violations(run: History) -> tuple[str, ...]:
    """Check a run.

    Returns:
        One sentence for each violation, beginning with the invariant and the gid; empty if none.
    """
    found = []
    for case in _cases(run):
        for name, check in _CHECKS.items():
            found += [f"{name} {case.gid}: {sentence}" for sentence in check(case)]
    return tuple(found)


def _cases(run: History) -> Iterator[_Case]:
    gids = dict.fromkeys(
        one.gid for group in (run.acks, run.final, run.calls, run.effects or (), run.writes) for one in group
    )
    final = {one.gid: one for one in run.final}
    acks, calls, effects = _by_gid(run.acks), _by_gid(run.calls), _by_gid(run.effects or ())
    writes, seen = _by_gid(run.writes), _by_gid(run.seen)
    for gid in gids:
        in_order = tuple(sorted(calls[gid], key=lambda call: call.started_ms))
        yield _Case(
            run,
            gid,
            final.get(gid),
            tuple(acks[gid]),
            in_order,
            None if run.effects is None else tuple(effects[gid]),
            tuple(writes[gid]),
            tuple(seen[gid]),
        )


def _by_gid(group: Iterable[Any]) -> defaultdict[str, list[Any]]:
    sorted_out: defaultdict[str, list[Any]] = defaultdict(list)
    for one in group:
        sorted_out[one.gid].append(one)
    return sorted_out


def _present(case: _Case) -> Iterator[str]:
    if case.acks and case.stored is None:
        yield f"{case.acks[0].verb} was acknowledged, but the transaction is gone"
        return
    for ack in case.acks:
        there = {(row.branch_id, row.op) for row in case.stored.rows} if case.stored else set()
        for branch_id, op in ack.rows:
            if (branch_id, op) not in there:
                yield f"the registration of branch {branch_id} {op} was acknowledged, but it is gone"
        status = case.stored.status if case.stored else ""
        if ack.ends and status in FINAL and status != ack.ends and not (case.forced and status == "failed"):
            yield f"{ack.verb} was acknowledged, so it must end as {ack.ends}, but it is {status}"


def _ended(case: _Case) -> Iterator[str]:
    if case.acks and case.stored and case.stored.status not in FINAL:
        yield f"it was acknowledged, but it is still {case.stored.status}"


def _complete(case: _Case) -> Iterator[str]:
    if case.stored is None:
        return
    for row in case.stored.rows:
        if not row.url:
            continue
        answered = any(call.result == SUCCESS and call.ended_ms for call in case.of(row.branch_id, row.op))
        if case.stored.status == "succeed" and row.op in FORWARD and row.status != "succeed":
            yield f"it succeeded, but {row.op} of branch {row.branch_id} is {row.status}"
        if row.status == "succeed" and not answered:
            yield f"{row.op} of branch {row.branch_id} is recorded as done, but no participant said so"


def _undone(case: _Case) -> Iterator[str]:
    if case.stored is None or case.stored.status != "failed" or case.forced:
        return
    if case.stored.mode == "msg" and any(call.op == "action" for call in case.calls):
        yield "the message failed, but it was delivered"
    urls = {(row.branch_id, row.op): row.url for row in case.stored.rows}
    for action, undo in UNDO.get(case.stored.mode, {}).items():
        for branch_id, done_ms in _took_effect(case, action):
            if urls.get((branch_id, undo)) == "":
                continue
            undone = [at_ms for other, at_ms in _took_effect(case, undo) if other == branch_id]
            if not undone or max(undone) < done_ms:
                yield f"it failed and {action} of branch {branch_id} took effect, but {undo} did not follow"


def _took_effect(case: _Case, op: str) -> list[tuple[str, float]]:
    """Branches whose operation changed something, and when; by their answers if no effects are known."""
    if case.effects is not None:
        return [(effect.branch_id, effect.at_ms) for effect in case.effects if effect.op == op]
    return [
        (call.branch_id, call.ended_ms)
        for call in case.calls
        if call.op == op and call.ended_ms and call.result == SUCCESS
    ]


def _one_direction(case: _Case) -> Iterator[str]:
    by_branch = case.stored is not None and case.stored.mode == "workflow"
    for forward, back in OPPOSITES:
        there = {call.branch_id if by_branch else "" for call in case.calls if call.op == forward}
        both = there & {call.branch_id if by_branch else "" for call in case.calls if call.op == back}
        for branch_id in sorted(both):
            where = f" for branch {branch_id}" if branch_id else ""
            yield f"{forward} and {back} were both called{where}"


def _in_order(case: _Case) -> Iterator[str]:
    before = _predecessors(case)
    for call in case.calls:
        if call.op == "action":
            for earlier in before.get(call.branch_id, ()):
                if not _succeeded_by(case, earlier, "action", call.started_ms):
                    yield f"action {call.branch_id} was called before action {earlier} had succeeded"
    for later, earlier_ones in before.items():
        undo = case.of(later, "compensate")
        for earlier in earlier_ones:
            first = case.of(earlier, "compensate")[:1]
            if undo and first and not _succeeded_by(case, later, "compensate", first[0].started_ms):
                yield f"compensate {earlier} was called before compensate {later} had succeeded"


def _succeeded_by(case: _Case, branch_id: str, op: str, moment_ms: float) -> bool:
    limit = moment_ms + case.run.slack_ms
    return any(c.result == SUCCESS and 0 < c.ended_ms <= limit for c in case.of(branch_id, op))


def _predecessors(case: _Case) -> dict[str, tuple[str, ...]]:
    """For each branch with an action, the branches whose action must come before it."""
    if case.stored is None or case.stored.mode not in ("saga", "msg"):
        return {}
    ids = [row.branch_id for row in case.stored.rows if row.op == "action"]
    custom = json.loads(case.stored.custom_data or "{}")
    concurrent = bool(custom.get("concurrent")) if case.stored.mode == "saga" else case.stored.concurrent
    orders = custom.get("orders") or {} if case.stored.mode == "saga" else {}
    before = {}
    for index, branch_id in enumerate(ids):
        earlier = set(orders.get(str(index)) or ())
        if index and not concurrent:
            earlier.add(index - 1)
        before[branch_id] = tuple(ids[other] for other in sorted(earlier))
    return before


def _compensated_in_time(case: _Case) -> Iterator[str]:
    before = _predecessors(case)
    slack, limit = case.run.slack_ms, case.run.request_timeout_ms
    for branch_id in sorted({call.branch_id for call in case.calls if call.op == "compensate"}):
        first_ms = case.of(branch_id, "compensate")[0].started_ms
        actions = case.of(branch_id, "action")
        for action in actions:
            if action.started_ms > first_ms + slack:
                yield f"action {branch_id} was called after its compensation"
            elif not (0 < action.ended_ms <= first_ms + slack or first_ms + slack >= action.started_ms + limit):
                yield f"branch {branch_id} was compensated while its action could still be running"
        if not actions:
            for earlier in before.get(branch_id, ()):
                if not _succeeded_by(case, earlier, "action", first_ms):
                    yield f"branch {branch_id} was compensated, but its action was never due"


def _nothing_after_the_end(case: _Case) -> Iterator[str]:
    if case.stored is None or not case.stored.finished_ms:
        return
    grace_ms = case.run.slack_ms + (case.run.lease_ms if case.forced else 0)
    for call in case.calls:
        if (late_ms := call.started_ms - case.stored.finished_ms) > grace_ms:
            yield f"{call.op} of branch {call.branch_id} was called {late_ms:.0f} ms after the end"


def _one_chain(case: _Case) -> Iterator[str]:
    accepted = [write for write in case.writes if write.accepted]
    for old, new in pairwise(accepted):
        if new.epoch < old.epoch:
            yield f"a write of epoch {new.epoch} was accepted after one of epoch {old.epoch}"
        if new.version != old.version + 1:
            yield f"version {new.version} follows version {old.version}"
        if lost := old.settled - new.settled:
            yield f"operations {sorted(lost)} were settled and are no more"
    looks = [*case.seen, case.stored] if case.stored else list(case.seen)
    for before, after in pairwise(looks):
        if after.status not in NEXT[before.status]:
            yield f"its status went from {before.status} to {after.status}"
        now = {(row.branch_id, row.op): row.status for row in after.rows}
        for row in before.rows:
            if row.status != "prepared" and now.get((row.branch_id, row.op)) != row.status:
                yield f"{row.op} of branch {row.branch_id} was {row.status} and is so no more"


def _stopped_when_refused(case: _Case) -> Iterator[str]:
    for refused in case.writes:
        if refused.accepted:
            continue
        for call in case.calls:
            if (call.owner, call.epoch) == (refused.owner, refused.epoch) and call.started_ms > refused.at_ms:
                yield (
                    f"{call.owner} called {call.op} of branch {call.branch_id} "
                    f"after its write of epoch {refused.epoch} was refused"
                )


def _at_most_once(case: _Case) -> Iterator[str]:
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for effect in case.effects or ():
        counts[effect.branch_id, effect.op] += 1
    for (branch_id, op), count in counts.items():
        if count > 1:
            yield f"{op} of branch {branch_id} took effect {count} times"


_CHECKS: Mapping[str, Callable[[_Case], Iterator[str]]] = {
    "I1": _present,
    "I2": _ended,
    "I3": _complete,
    "I4": _undone,
    "I5": _one_direction,
    "I6": _in_order,
    "I7": _compensated_in_time,
    "I8": _nothing_after_the_end,
    "I9": _one_chain,
    "I10": _stopped_when_refused,
    "I11": _at_most_once,
}
