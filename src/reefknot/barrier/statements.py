"""The barrier's SQL: one file for each statement and database, made fit for a driver's placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files

from reefknot.barrier.core import checked_table

_FOLDER = files("reefknot.barrier")


class Database(StrEnum):
    """A kind of database. MariaDB is ``mysql``; ``mongo`` has documents and no SQL."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"
    MYSQL = "mysql"
    MONGO = "mongo"


class Placeholder(StrEnum):
    """How a driver writes the place of a parameter."""

    QUESTION = "?"
    FORMAT = "%s"
    NUMBER = "$1"
    NAME = ":p1"


#: What DTM's clients call the table; SQLite has no schemas.
DEFAULT_TABLES: Mapping[Database, str] = {
    Database.SQLITE: "barrier",
    Database.POSTGRES: "dtm_barrier.barrier",
    Database.MYSQL: "dtm_barrier.barrier",
    Database.MONGO: "dtm_barrier.barrier",
}

_WRITTEN: Mapping[Placeholder, Callable[[int], str]] = {
    Placeholder.QUESTION: lambda _: "?",
    Placeholder.FORMAT: lambda _: "%s",
    Placeholder.NUMBER: lambda number: f"${number}",
    Placeholder.NAME: lambda number: f":p{number}",
}


@lru_cache
def statement(name: str, database: Database, placeholder: Placeholder, table: str) -> str:
    """One statement of the barrier.

    Args:
        name: ``insert`` or ``read``.
        database: whose SQL.
        placeholder: how the driver writes parameters.
        table: the barrier's table.

    Raises:
        Invalid: the table's name cannot stand in a statement.
    """
    text = (_FOLDER / "statements" / f"{name}.{database}.sql").read_text("utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    numbers = iter(range(1, text.count("?") + 1))
    text = re.sub(r"\?", lambda _: _WRITTEN[placeholder](next(numbers)), text)
    return text.replace("{table}", checked_table(table))


def table_sql(database: Database, table: str = "") -> str:
    """The statements that create the barrier's table, as DTM's clients expect it.

    Args:
        database: whose SQL.
        table: its name; DTM's if empty.

    Raises:
        Invalid: the name cannot stand in a statement.
    """
    default = DEFAULT_TABLES[database]
    schema, _, name = checked_table(table or default).rpartition(".")
    text = (_FOLDER / "tables" / f"{database}.sql").read_text("utf-8")
    lines = (line for line in text.splitlines() if schema or "{schema}" not in line or "{schema}." in line)
    prefix = f"{schema}." if schema else ""
    return "\n".join(lines).replace("{schema}.", prefix).replace("{schema}", schema).replace("{name}", name) + "\n"
