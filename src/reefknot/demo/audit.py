"""The auditor: reads the banks' database files directly and finds what does not add up."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from reefknot.store.statements import load_statements

SQL = load_statements("reefknot.demo", "bank.sql")


class Entry(msgspec.Struct, frozen=True):
    """One booking: which branch operation changed which account by how much."""

    gid: str
    branch_id: str
    op: str
    account: str
    amount: int


class Books(msgspec.Struct, frozen=True):
    """What stands in the banks' files: balances by account, what they were opened with, every entry."""

    balances: dict[str, int]
    opened_with: dict[str, int]
    entries: tuple[Entry, ...]

    @property
    def total(self) -> int:
        """All the money there is."""
        return sum(self.balances.values())

    def of(self, gid: str) -> list[tuple[str, str]]:
        """The branch and operation of each entry of a transaction, in order."""
        return sorted((entry.branch_id, entry.op) for entry in self.entries if entry.gid == gid)


def read_books(databases: Iterable[Path]) -> Books:
    """Read the files, without the banks' help and without changing anything."""
    balances: dict[str, int] = {}
    opened_with: dict[str, int] = {}
    entries: list[Entry] = []
    for database in databases:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as conn:
            for name, opened, balance in conn.execute(SQL["list_accounts"]):
                opened_with[name], balances[name] = opened, balance
            entries += [Entry(*row) for row in conn.execute(SQL["list_entries"])]
    return Books(balances, opened_with, tuple(entries))


def find_problems(
    books: Books,
    asked: Mapping[str, int],
    expected: Mapping[str, int],
    gid: str,
    effects: Sequence[tuple[str, str]],
) -> list[str]:
    """Everything that is not as it must be, in words.

    Args:
        books: what the files say.
        asked: the balances as the banks themselves state them.
        expected: the balances after this story.
        gid: the story's transaction.
        effects: branch and operation of each booking that the transaction must have made, each once.
    """
    problems = []
    if books.total != sum(books.opened_with.values()):
        problems.append(f"there is {books.total} in all accounts and was {sum(books.opened_with.values())} at first")
    if books.balances != dict(expected):
        problems.append(f"the files say {_text(books.balances)}, expected is {_text(expected)}")
    if dict(asked) != books.balances:
        problems.append(f"the banks say {_text(asked)}, their files say {_text(books.balances)}")
    for name, balance in books.balances.items():
        booked = books.opened_with[name] + sum(entry.amount for entry in books.entries if entry.account == name)
        if booked != balance:
            problems.append(f"{name} has {balance}, but the entries come to {booked}")
    counts = Counter((entry.gid, entry.branch_id, entry.op) for entry in books.entries)
    problems += [
        f"branch {branch_id} {op} of {name} took effect {count} times"
        for (name, branch_id, op), count in counts.items()
        if count > 1
    ]
    if books.of(gid) != sorted(effects):
        problems.append(f"the transfer's entries are {books.of(gid)}, expected are {sorted(effects)}")
    return problems


def _text(balances: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {balance}" for name, balance in balances.items())
