"""Loads SQL from the files beside a store: named statements and numbered migrations.

A statements file is a sequence of blocks. A line ``-- name: claim_due`` opens a block; comment
lines below it explain the statement; the rest up to the next name is the statement.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_(\w+)\.sql")


class Migration(NamedTuple):
    """One step of a schema: its number, its name and its SQL script."""

    version: int
    name: str
    script: str


def load_statements(package: str, file: str = "statements.sql") -> dict[str, str]:
    """The named statements of a file inside a package.

    Args:
        package: for example ``reefknot.store.sqlite``.
        file: the file's name.

    Raises:
        ValueError: a name occurs twice or names no statement.
    """
    parts = _NAME.split(files(package).joinpath(file).read_text("utf-8"))
    statements: dict[str, str] = {}
    for name, block in zip(parts[1::2], parts[2::2], strict=True):
        text = _COMMENT.sub("", block).strip().removesuffix(";")
        if name in statements or not text:
            raise ValueError(f"{package}/{file}: statement {name!r} is empty or occurs twice")
        statements[name] = text
    return statements


def load_migrations(package: str) -> tuple[Migration, ...]:
    """The migrations in the folder ``migrations`` of a package, in order.

    Raises:
        ValueError: the numbers are not 1, 2, 3, …
    """
    steps = [
        Migration(int(match[1]), match[2], file.read_text("utf-8"))
        for file in files(package).joinpath("migrations").iterdir()
        if (match := _MIGRATION.fullmatch(file.name))
    ]
    steps.sort()
    if [step.version for step in steps] != list(range(1, len(steps) + 1)):
        raise ValueError(f"{package}/migrations: the files are not numbered 0001, 0002, …")
    return tuple(steps)
