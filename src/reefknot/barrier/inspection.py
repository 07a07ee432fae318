"""Whether a barrier's table is what the barrier needs: its columns, its key, its collation, its engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from reefknot.barrier.core import COLUMN_LENGTHS
from reefknot.barrier.opening import Opened
from reefknot.barrier.statements import DEFAULT_TABLES, Database, statement

KEY = ("gid", "branch_id", "op", "barrier_id")
_COLUMNS = {**COLUMN_LENGTHS, "barrier_id": 2, "reason": 45}
_TEXT = re.compile(r"(?:character varying|varchar|char|character|varbinary)\((\d+)\)", re.IGNORECASE)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    ``state`` is ``ok``, ``warning`` (it works, mind it) or ``wrong`` (the barrier fails, or protects nothing).
    ``fix`` is the statement or command that changes it; empty if nothing is to be done.
    """

    check: str
    state: str
    found: str
    fix: str = ""


def inspect_table(opened: Opened, table: str = "") -> list[Finding]:
    """Look at a barrier's table.

    Args:
        opened: a connection to its database.
        table: its name; DTM's if empty.

    Returns:
        What was found, the table's existence first; only that if it does not exist.
    """
    table = table or DEFAULT_TABLES[opened.database]
    columns = {name: rest for name, *rest in _ask(opened, "columns", table)}
    if not columns:
        create = f"reefknot barrier sql --db {opened.database} --table {table}"
        return [Finding("table", "wrong", f"{table} does not exist", create)]
    found = [Finding("table", "ok", table)]
    found += _columns(table, opened.database, columns)
    found += _key(table, opened)
    if opened.database is Database.MYSQL:
        found += _collation(table, columns)
        found += _engine(table, opened)
    found += _age(table, opened.database, columns)
    return found


def _columns(table: str, database: Database, columns: dict[str, list[Any]]) -> Iterator[Finding]:
    """Too narrow a column would refuse rows, or cut them."""
    narrow = {}
    for name, most in _COLUMNS.items():
        kind = str(columns[name][0]) if name in columns else "missing"
        width = _TEXT.fullmatch(kind)
        # SQLite does not look at widths; a type without one holds anything.
        bounded = database is not Database.SQLITE and kind.lower() != "text"
        if kind == "missing" or (bounded and (width is None or int(width[1]) < most)):
            narrow[name] = (kind, most)
    if not narrow:
        yield Finding("columns", "ok", ", ".join(_COLUMNS))
    verb = "MODIFY" if database is Database.MYSQL else "ALTER"
    for name, (kind, most) in narrow.items():
        if kind == "missing":
            fix = f"ALTER TABLE {table} ADD {name} varchar({most}) DEFAULT '';"
        else:
            fix = f"ALTER TABLE {table} {verb} {name}{' TYPE' if verb == 'ALTER' else ''} varchar({most});"
        yield Finding("columns", "wrong", f"{name} is {kind}, needs {most} characters", fix)


def _key(table: str, opened: Opened) -> Iterator[Finding]:
    """Without the unique key nothing keeps a second call out."""
    keys: dict[str, list[str]] = {}
    for name, column in _ask(opened, "keys", table):
        keys.setdefault(name, []).append(column)
    fitting = [name for name, columns in keys.items() if set(columns) == set(KEY)]
    listed = ", ".join(KEY)
    if not fitting:
        fix = f"ALTER TABLE {table} ADD CONSTRAINT uniq_barrier UNIQUE ({listed});"
        if opened.database is Database.SQLITE:
            fix = f"CREATE UNIQUE INDEX uniq_barrier ON {table.rpartition('.')[2]} ({listed});"
        yield Finding("unique key", "wrong", f"none on exactly {listed}", fix)
    elif opened.database is Database.POSTGRES and "uniq_barrier" not in fitting:
        fix = f"ALTER TABLE {table} ADD CONSTRAINT uniq_barrier UNIQUE ({listed});"
        yield Finding("unique key", "warning", f"{fitting[0]}; DTM's Go client needs the name uniq_barrier", fix)
    else:
        yield Finding("unique key", "ok", fitting[0])


def _collation(table: str, columns: dict[str, list[Any]]) -> Iterator[Finding]:
    """MySQL's usual collations take order-a, Order-A and order-á for one gid."""
    loose = {name: columns[name][1] for name in KEY if name in columns and not _compares_bytes(str(columns[name][1]))}
    narrow = {name: columns[name][1] for name in KEY if name in columns and not _holds_any(str(columns[name][1]))}
    fix = f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
    if loose:
        text = f"{', '.join(sorted(set(map(str, loose.values()))))} takes gids that differ in case or accents for one"
        yield Finding("collation", "warning", f"{text}; the barrier then refuses the second", fix)
    if narrow:
        yield Finding("character set", "warning", "cannot hold every character; such gids are errors", fix)
    if not loose and not narrow:
        yield Finding("collation", "ok", str(columns["gid"][1]) or "bytes")


def _compares_bytes(collation: str) -> bool:
    return not collation or collation.endswith("_bin") or collation == "binary"


def _holds_any(collation: str) -> bool:
    return not collation or collation.startswith("utf8mb4") or collation == "binary"


def _engine(table: str, opened: Opened) -> Iterator[Finding]:
    """MyISAM and its like have no transactions."""
    [[engine]] = _ask(opened, "engine", table)
    if str(engine).lower() in {"innodb", "rocksdb"}:
        yield Finding("engine", "ok", str(engine))
    else:
        fix = f"ALTER TABLE {table} ENGINE = InnoDB;"
        yield Finding("engine", "wrong", f"{engine} has no transactions: the barrier protects nothing", fix)


def _age(table: str, database: Database, columns: dict[str, list[Any]]) -> Iterator[Finding]:
    """Rows without a time cannot be cleaned."""
    if "create_time" in columns and columns["create_time"][2]:
        yield Finding("age of rows", "ok", "create_time")
        return
    text = "create_time has no default" if "create_time" in columns else "there is no column create_time"
    fix = f"ALTER TABLE {table} ALTER create_time SET DEFAULT now();"
    usable = "create_time" in columns and database is Database.POSTGRES
    yield Finding("age of rows", "warning", f"{text}: reefknot barrier clean leaves such rows", fix if usable else "")


def _ask(opened: Opened, name: str, table: str) -> list[tuple[Any, ...]]:
    schema, _, bare = table.rpartition(".")
    parameters: tuple[str, ...] = (schema, bare)
    if opened.database is Database.SQLITE:
        schema = schema or "main"
        parameters = (bare, schema, schema) if name == "keys" else (bare, schema)
    return opened.run(statement(name, opened.database, opened.placeholder, table), parameters)
