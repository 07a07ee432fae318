"""The commands. Each imports what it needs when it runs, so that the light ones start fast."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import click

from reefknot import __version__
from reefknot.cli.barrier import barrier_group
from reefknot.cli.config import config_group
from reefknot.cli.settings import config_option, load_settings, store_option, tell_notices
from reefknot.cli.xa import xa_group

_PASS_THROUGH = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@config_option
@click.option("-d", "debug", is_flag=True, help="Log debug messages.")
@click.option("-r", "reset", is_flag=True, help="Delete everything in the store, then start; asks first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("-v", "version", is_flag=True, help="Print the version.")
@click.pass_context
def root(
    context: click.Context,
    file: Path | None,
    debug: bool,  # noqa: ARG001 - every command's load_settings finds it in the context
    reset: bool,
    yes: bool,
    version: bool,
) -> int:
    """Distributed transaction manager, wire compatible with DTM.

    Without a command the server starts, as DTM does.

    \b
    Examples:
      reefknot                                    serve, keeping data in ./reefknot.db
      reefknot -c conf.yml                        serve with DTM's or Reefknot's configuration file
      reefknot serve --store memory://            serve, keeping nothing
      reefknot demo                               watch money being transferred through crashes
      reefknot config show                        every setting and where it came from
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    if version:
        click.echo(f"reefknot version: {__version__}")
        context.exit(0)
    if context.invoked_subcommand is None:
        return _serve(context, file, flags={}, reset=reset, yes=yes)
    return 0


root.add_command(config_group)
root.add_command(barrier_group)
root.add_command(xa_group)


@root.command()
@config_option
@store_option
@click.option("--host", metavar="H", help="Address to listen on; 0.0.0.0 for all.")
@click.option("--http-port", type=int, metavar="N", help="Port of the HTTP API; 0 for any free one.")
@click.option("--grpc-port", type=int, metavar="N", help="Port of the gRPC API.")
@click.option("--workers", type=int, metavar="N", help="Node processes that share the port.")
@click.option(
    "--require-durability", type=click.Choice(["full"]), help="Refuse a store that can lose what it acknowledged."
)
@click.option("-d", "debug", is_flag=True, help="Log debug messages.")
@click.option("-r", "reset", is_flag=True, help="Delete everything in the store, then start; asks first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def serve(
    context: click.Context,
    file: Path | None,
    store: str | None,
    host: str | None,
    http_port: int | None,
    grpc_port: int | None,
    workers: int | None,
    require_durability: str | None,
    debug: bool,
    reset: bool,
    yes: bool,
) -> int:
    """Start the server and run until SIGTERM or Ctrl-C.

    \b
    Examples:
      reefknot serve --http-port 8080 --store sqlite:////var/lib/reefknot/reefknot.db
      REEFKNOT_STORE_URL=memory:// reefknot serve -d
    """  # noqa: D301 - as above
    flags = {
        "Store.Url": store,
        "HttpHost": host,
        "HttpPort": http_port,
        "GrpcPort": grpc_port,
        "Workers": workers,
        "RequireDurability": require_durability,
        "LogLevel": "debug" if debug else None,
    }
    before = context.find_root().params
    return _serve(context, file, flags, reset=reset or before["reset"], yes=yes or before["yes"])


def _serve(context: click.Context, file: Path | None, flags: Mapping[str, object], *, reset: bool, yes: bool) -> int:
    from reefknot.checks import check_settings
    from reefknot.workers import WORKER_VARIABLE

    loaded = load_settings(context, file, flags)
    tell_notices(loaded)
    check_settings(loaded.config)
    # A worker has the words of its parent, which has emptied the store before it started any.
    if reset and WORKER_VARIABLE not in os.environ:
        from reefknot.cli.storage import reset_store

        reset_store(loaded.config.store.location(), ask=not yes)
    from reefknot.app import serve as run_server

    return run_server(loaded.config)


@root.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the version.

    \b
    Example:
      reefknot version --json
    """  # noqa: D301 - as above
    if as_json:
        click.echo(json.dumps({"version": __version__, "python": platform.python_version()}))
    else:
        click.echo(f"reefknot version: {__version__}")


@root.command()
@config_option
@store_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--sql", is_flag=True, help="Only print the SQL of all migrations; asks no server.")
@click.pass_context
def migrate(context: click.Context, file: Path | None, store: str | None, dry_run: bool, sql: bool) -> None:
    """Bring the store's tables to this version; safe to run twice.

    The server does this by itself when it starts.

    \b
    Example:
      reefknot migrate --store sqlite:///reefknot.db --dry-run
      reefknot migrate --store postgres://h/db --sql | less
    """  # noqa: D301 - as above
    from reefknot.cli.storage import migrate_store
    from reefknot.store import migration_sql

    loaded = load_settings(context, file, {"Store.Url": store})
    tell_notices(loaded)
    if sql:
        click.echo(migration_sql(loaded.config.store.location().reveal()), nl=False)
        return
    migrate_store(loaded.config.store.location(), dry_run=dry_run)


@root.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def demo(args: tuple[str, ...]) -> int:
    """Show four money transfers, with crashes in between."""
    from reefknot.demo import main

    return main(list(args))


@root.command(context_settings=_PASS_THROUGH, add_help_option=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def bench(args: tuple[str, ...]) -> int:
    """Measure a running server: rate, latency, CPU, bytes written."""
    from reefknot.bench import main

    return main(list(args))
