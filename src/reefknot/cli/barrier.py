"""``reefknot barrier``: the table of the barrier in a participant's database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from reefknot.barrier.statements import Database, table_sql
from reefknot.cli.output import emit

if TYPE_CHECKING:
    from reefknot.barrier.cleaning import Standing
    from reefknot.client import Client

_FAILED = 1
_DAY = 86400
_PAUSE_SECONDS = 0.05
_DATABASES = {database.value: database for database in Database if database is not Database.MONGO} | {
    "mariadb": Database.MYSQL
}

_TABLE = click.option("--table", default="", metavar="NAME", help="The table, if it has another name than DTM's.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("barrier")
def barrier_group() -> None:
    """Create, check and clean the barrier's table in a participant's database."""


@barrier_group.command()
@click.option("--db", "database", type=click.Choice(list(_DATABASES)), required=True, help="Whose SQL.")
@_TABLE
def sql(database: str, table: str) -> None:
    """Print the statements that create the table.

    It is the table that DTM's clients use, so that branches in several languages share it.

    \b
    Examples:
      reefknot barrier sql --db postgres | psql "$DATABASE_URL"
      reefknot barrier sql --db mysql --table shop.barrier | mysql shop
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    click.echo(table_sql(_DATABASES[database], table), nl=False)


@barrier_group.command()
@click.argument("url")
@_TABLE
@_JSON
def check(url: str, table: str, as_json: bool) -> int:
    """Say whether the table is there and right; exit code 1 if something is wrong.

    Looks at the columns' widths, the unique key, and in MySQL at the collation and the engine. Prints the
    statement that repairs what is not right, and changes nothing.

    \b
    Examples:
      reefknot barrier check postgres://bank@db/bank
      reefknot barrier check sqlite:///bank.db --table barrier --json
    """  # noqa: D301 - as above
    from reefknot.barrier.inspection import inspect_table
    from reefknot.barrier.opening import open_connection

    opened = open_connection(url)
    try:
        found = inspect_table(opened, table)
    finally:
        opened.close()
    emit([msgspec.structs.asdict(finding) for finding in found], as_json=as_json)
    return _FAILED if any(finding.state == "wrong" for finding in found) else 0


@barrier_group.command("clean")
@click.argument("url")
@click.option("--server", metavar="URL", help="The server to ask whether a transaction is finished.")
@click.option("--no-server", is_flag=True, help="Ask no server: go by the age of the rows alone.")
@click.option("--older-than", default=7.0, show_default=True, metavar="DAYS", help="Leave younger rows.")
@click.option(
    "--unknown-older-than",
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="The same for transactions that the server does not know.",
)
@click.option("--batch", default=200, show_default=True, help="Transactions between two short pauses.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@_TABLE
@_JSON
def clean_table(
    url: str,
    server: str | None,
    no_server: bool,
    older_than: float,
    unknown_older_than: float,
    batch: int,
    dry_run: bool,
    table: str,
    as_json: bool,
) -> None:
    """Delete the rows of transactions that are over.

    A row matters until no call of its transaction can come any more. So a transaction's rows are deleted
    only if all of them are old and the server says that it is finished. Rows without a time are left.

    \b
    Examples:
      reefknot barrier clean postgres://bank@db/bank --server http://127.0.0.1:36789 --dry-run
      reefknot barrier clean mysql://bank@db/bank --server http://127.0.0.1:36789 --older-than 30
    """  # noqa: D301 - as above
    from reefknot.barrier.cleaning import Tally, clean
    from reefknot.barrier.opening import open_connection
    from reefknot.client import Client

    if no_server == (server is not None):
        raise click.UsageError(
            "name the server with --server, which knows what is finished; or go by age alone with --no-server, if "
            "no transaction stays unfinished for as long as --older-than"
        )
    if older_than < 1 or unknown_older_than < older_than or batch < 1:
        raise click.UsageError("--older-than is at least 1 day, --unknown-older-than at least that, --batch at least 1")
    opened = open_connection(url)
    client = Client(server) if server else None
    tally = Tally()
    try:
        for tally in clean(  # noqa: B007 - the last one is printed
            opened,
            table,
            older_than=int(older_than * _DAY),
            unknown_older_than=int(unknown_older_than * _DAY),
            standing=lambda gid: _standing(client, gid),
            batch=batch,
            dry_run=dry_run,
            pause=lambda: time.sleep(_PAUSE_SECONDS),
        ):
            pass
    finally:
        opened.close()
        if client is not None:
            client.close()
    row = msgspec.structs.asdict(tally)
    if dry_run:
        row["would delete"] = row.pop("deleted")
    emit([row], as_json=as_json)


def _standing(client: Client | None, gid: str) -> Standing:
    from reefknot.barrier.cleaning import Standing

    if client is None:
        return Standing.FINISHED
    transaction = client.get(gid)
    if transaction is None:
        return Standing.UNKNOWN
    return Standing.FINISHED if transaction.status.final else Standing.UNFINISHED
