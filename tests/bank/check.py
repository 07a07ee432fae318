"""What must hold when a run is at rest; each breach is one sentence."""

from collections import Counter, defaultdict

from bank.accounts import START
from bank.run import ACCOUNTS
from reefknot.barrier.core import ORIGINS
from reefknot.testing.invariants import violations


def breaches(result):
    """Everything that is wrong after a run; empty if nothing is."""
    return [sentence for check in CHECKS for sentence in check(result)]


def story(result, broken, most=3):
    """The breaches, and everything known about the first transfers that they name, in order of time."""
    named = [transfer for transfer in result.transfers if any(transfer.gid in sentence for sentence in broken)]
    lines = [*broken]
    for gid, order in named[:most]:
        lines += [f"--- {gid} {order} {result.said[gid]}", f"    {result.final.get(gid)}"]
        told = [(call.started_ms, str(call)) for call in result.history.calls if call.gid == gid]
        told += [(line.at_ms, str(line)) for bank in result.banks for line in bank.journal if line.gid == gid]
        lines += [f"    {at_ms:.0f} {text}" for at_ms, text in sorted(told)]
        lines += [
            f"    {row} {bank.barrier[row]}" for bank in result.banks for row in sorted(bank.barrier) if row[0] == gid
        ]
    return "\n".join(lines)


def total(result):
    """All the money there is."""
    return sum(sum(bank.balances.values()) for bank in result.banks)


def negative(result):
    """The accounts below zero."""
    return [number for bank in result.banks for number, balance in bank.balances.items() if balance < 0]


def prepared(result):
    """The branches that are prepared and not decided, in the databases."""
    return [xid for bank in result.banks for xid in bank.prepared]


def effects(result):
    """How often each (gid, branch, op) changed something."""
    return Counter((line.gid, line.branch_id, line.op) for bank in result.banks for line in bank.journal)


def _money(result):
    if total(result) != (expected := ACCOUNTS * START):
        yield f"the sum is {total(result)}, and was {expected}"
    for number in negative(result):
        yield f"account {number} is below zero"
    for bank in result.banks:
        for number, (frozen, pending) in bank.held.items():
            yield f"account {number} has {frozen} frozen and {pending} pending, though nothing is under way"


def _nothing_prepared(result):
    for xid in prepared(result):
        yield f"{xid} is still prepared"


def _balances_follow_the_outcomes(result):
    """Every account, to the last unit: by what the server says of each transfer."""
    expected = dict.fromkeys(range(ACCOUNTS), START)
    for transfer in result.transfers:
        if transfer.gid in result.final and result.final[transfer.gid].status == "succeed":
            expected[transfer.order["from"]] -= transfer.order["amount"]
            expected[transfer.order["to"]] += transfer.order["amount"]
    for bank in result.banks:
        for number, balance in bank.balances.items():
            if balance != expected[number]:
                yield f"account {number} has {balance}, and the transfers that succeeded leave {expected[number]}"


def _journal_follows_the_outcomes(result):
    """Each transfer moved its money, or none."""
    moved = defaultdict(Counter)
    for bank in result.banks:
        for line in bank.journal:
            moved[line.gid][line.account] += line.amount
    for transfer in result.transfers:
        order = transfer.order
        succeeded = transfer.gid in result.final and result.final[transfer.gid].status == "succeed"
        expected = {order["from"]: -order["amount"], order["to"]: order["amount"]} if succeeded else {}
        if (found := {number: amount for number, amount in moved[transfer.gid].items() if amount}) != expected:
            status = result.final[transfer.gid].status if transfer.gid in result.final else "not there"
            yield f"{transfer.gid} is {status}, and moved {found} instead of {expected}"


def _told_the_truth(result):
    for gid, said in result.said.items():
        status = result.final[gid].status if gid in result.final else ""
        if said["outcome"] == "conflict":
            yield f"{gid}: the same order was taken for another one: {said['why']}"
        if said["outcome"] == "refused" and status == "succeed":
            yield f"{gid}: the customer was told that it is refused, and it succeeded"
        if said["outcome"] in ("succeed", "submitted", "prepared", "decided") and not status:
            yield f"{gid}: the customer was told that it is {said['outcome']}, and it is gone"


def _barrier_agrees(result):
    """The barrier's rows say of the same operations as the journal that they ran."""
    counts = effects(result)
    for bank in result.banks:
        # Where a handler asks its barrier several times, the journal is written under the last number.
        last = max((barrier_id for *_, barrier_id in bank.barrier), default="")
        ran = {row[:3] for row in bank.barrier if row[3] == last and _ran(bank.barrier, row)}
        journal = {(line.gid, line.branch_id, line.op) for line in bank.journal}
        for gid, branch_id, op in sorted(ran ^ journal):
            where = "barrier" if (gid, branch_id, op) in ran else "journal"
            yield f"{gid}: {op} of branch {branch_id} is in the {where} only"
    for (gid, branch_id, op), count in counts.items():
        if count > 1:
            yield f"{gid}: {op} of branch {branch_id} took effect {count} times"


def _ran(rows, row):
    """Whether the operation of this row did its work: it wrote the row itself, and had something to undo."""
    gid, branch_id, op, barrier_id = row
    origin = ORIGINS.get(op)
    return rows[row] == op and (origin is None or rows.get((gid, branch_id, origin, barrier_id)) == origin)


def _invariants(result):
    yield from violations(result.history)


CHECKS = (
    _money,
    _nothing_prepared,
    _balances_follow_the_outcomes,
    _journal_follows_the_outcomes,
    _told_the_truth,
    _barrier_agrees,
    _invariants,
)
