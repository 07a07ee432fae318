"""Prints rows: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

# Wide enough that a pipe gets each row on one line.
_PIPE_COLUMNS = 400


def emit(rows: Sequence[dict[str, object]], *, as_json: bool) -> None:
    """Print rows to standard output.

    Args:
        rows: all with the same keys, which become the column titles.
        as_json: print a JSON array instead of a table.
    """
    if as_json:
        sys.stdout.write(json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in rows[0] if rows else ():
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    Console(markup=False, highlight=False, width=width).print(table)
