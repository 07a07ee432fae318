"""``reefknot xa``: what is prepared in a participant's database and waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
import msgspec

from reefknot.cli.output import emit
from reefknot.errors import Invalid, ReefknotError

if TYPE_CHECKING:
    from reefknot.xa.indoubt import Prepared

_FAILED = 1
_LIBRARIES = {"postgres": "psycopg", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}

_SERVER = "The server that decides: its URL as clients use it."
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("xa")
def xa_group() -> None:
    """Look at prepared xa branches, and end those whose transaction is decided."""


@xa_group.command("list")
@click.argument("url")
@click.option("--server", metavar="URL", help=f"{_SERVER} Without it no verdict is given.")
@_JSON
def list_prepared(url: str, server: str | None, as_json: bool) -> None:
    """Everything that is prepared in a participant's database.

    Verdicts: `commit` and `roll back` for a transaction that has ended without this branch hearing of
    it; `wait` for one that the server still works on; `leave` for what is no branch of a transaction that
    the server knows.

    \b
    Examples:
      reefknot xa list mysql://bank@db/bank --server http://127.0.0.1:36789
      reefknot xa list postgres://bank@db/bank --json
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    from reefknot.client import Client
    from reefknot.xa.indoubt import prepared

    client = Client(server) if server else None
    try:
        found = prepared(_connector(url), client)
    finally:
        if client is not None:
            client.close()
    _show(found, as_json=as_json)


@xa_group.command()
@click.argument("url")
@click.option("--server", metavar="URL", required=True, help=_SERVER)
@click.option("--table", default="", metavar="NAME", help="The barrier's table, if it has another name than DTM's.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@_JSON
def sweep(url: str, server: str, table: str, dry_run: bool, as_json: bool) -> int:
    """Commit what succeeded and roll back what failed, by the server's word; exit code 1 if one could not be ended.

    Branches of transactions that are not finished are left, and so is what belongs to none that this server knows.

    \b
    Examples:
      reefknot xa sweep mysql://bank@db/bank --server http://127.0.0.1:36789 --dry-run
      reefknot xa sweep postgres://bank@db/bank --server http://127.0.0.1:36789
    """  # noqa: D301 - as above
    from reefknot.client import Client
    from reefknot.xa.indoubt import Verdict
    from reefknot.xa.indoubt import sweep as sweep_prepared

    with Client(server) as client:
        found = list(sweep_prepared(_connector(url), client, table=table, dry_run=dry_run))
    _show(found, as_json=as_json)
    return _FAILED if any(one.problem and one.verdict is not Verdict.LEAVE for one in found) else 0


def _show(found: Sequence[Prepared], *, as_json: bool) -> None:
    if found or as_json:
        emit([msgspec.to_builtins(one) for one in found], as_json=as_json)
    else:
        click.echo("nothing is prepared")


def _connector(url: str) -> Callable[[], Any]:
    """Opens connections to the database; one that cannot be opened raises ``ReefknotError``.

    Raises:
        Invalid: the URL cannot be read, the database is none that prepares transactions, or its library is not
            installed.
    """
    from reefknot.barrier.opening import mysql_arguments, place_of, postgres_url, split_url

    split = split_url(url)
    name = _LIBRARIES.get(split.scheme)
    if name is None:
        raise Invalid("url", f"begins with {split.scheme!r}", f"use one of {', '.join(_LIBRARIES)}")
    try:
        library = import_module(name)
    except ModuleNotFoundError as error:
        raise Invalid("url", f"needs {name}, which is not installed", f"pip install {name}") from error
    if name == "psycopg":
        options: dict[str, Any] = {"conninfo": postgres_url(url)}
    else:
        options = mysql_arguments(split)

    def connect() -> Any:
        try:
            return library.connect(**options)
        except Exception as error:  # a library has errors of its own and lets others through
            raise ReefknotError(f"cannot connect to {place_of(split)} with {name}: {error}") from error

    return connect
