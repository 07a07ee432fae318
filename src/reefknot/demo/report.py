"""What the demo prints: plain lines for people, one JSON object for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from reefknot.demo.stories import BranchLine, Ending

HEADINGS = ("branch", "operation", "called", "status", "tries", "time", "the bank's answers")
RIGHT = frozenset({"tries", "time"})
#: Said after a story's table: what to see in it.
REMARKS = {
    1: "Both banks booked, each in its own database.",
    2: "Alice has her money back. West was told to undo what it never did: its barrier noticed.",
    3: "The server asked again; west's barrier knew the call: booked once, not twice.",
    4: "The transfer was durable before it was accepted; the new server found it and finished it.",
}


class Report(msgspec.Struct, frozen=True):
    """The whole run. ``processes``: the ids of all that were started; ``directory``: the kept files."""

    ok: bool
    seconds: float
    stories: list[Ending]
    problems: list[str]
    processes: list[int]
    directory: str


def ending_lines(ending: Ending) -> list[str]:
    """A finished story: the branch table, the status, the money."""
    lines = [f"   {line}" for line in table([branch_cells(branch) for branch in ending.branches])]
    took = f"{ending.seconds * 1000:.0f} ms" if ending.seconds < 1 else f"{ending.seconds:.1f} s"
    lines.append(f"   {ending.status} after {took}      {money(ending.balances)}")
    if ending.problems:
        lines += [f"   WRONG: {problem}" for problem in ending.problems]
    else:
        lines.append(f"   {REMARKS[ending.number]}")
    return lines


def money(balances: Mapping[str, int]) -> str:
    """The balances and their sum."""
    accounts = "   ".join(f"{name.capitalize()} {balance}" for name, balance in balances.items())
    return f"{accounts}   together {sum(balances.values())}"


def branch_cells(branch: BranchLine) -> tuple[str, ...]:
    """One row of the table."""
    took = "-" if branch.milliseconds is None else f"{branch.milliseconds} ms"
    answers = ", then ".join(branch.answers)
    return branch.branch_id, branch.op, branch.call, branch.status, str(branch.tries), took, answers


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows under the headings, in columns as wide as needed."""
    everything = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(HEADINGS))]
    return [
        "  ".join(
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for cell, width, heading in zip(row, widths, HEADINGS, strict=True)
        ).rstrip()
        for row in everything
    ]
