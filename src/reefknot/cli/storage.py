"""What the command line does with a store itself: bring its tables up to date, empty it."""

from __future__ import annotations

import asyncio
import sys

import click

from reefknot.clock import SystemClock
from reefknot.config import SecretUrl
from reefknot.failpoints import disarmed
from reefknot.store import open_store, pending_migrations


def reset_store(location: SecretUrl, *, ask: bool) -> None:
    """Delete every transaction, branch and topic of a store, and nothing else in its database.

    Args:
        location: the store.
        ask: let a person at the terminal confirm it.

    Raises:
        click.UsageError: nobody can be asked.
        click.Abort: the person said no.
    """
    if ask:
        if not sys.stdin.isatty():
            raise click.UsageError("-r deletes all data and there is no terminal to ask at; add --yes")
        click.confirm(f"Delete every transaction, branch and topic in {location}?", abort=True, err=True)
    count = asyncio.run(_reset(location.reveal()))
    click.echo(f"reefknot: deleted {count} transaction{'' if count == 1 else 's'} from {location}", err=True)


async def _reset(url: str) -> int:
    store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    try:
        return await store.reset()
    finally:
        await store.close()


def migrate_store(location: SecretUrl, *, dry_run: bool) -> None:
    """Apply the migrations that a store does not have yet, and print their names.

    Args:
        location: the store.
        dry_run: only print what would be applied.
    """
    names = asyncio.run(_migrate(location.reveal(), dry_run=dry_run))
    for name in names:
        click.echo(f"would apply {name}" if dry_run else f"{name}: applied")
    if not names:
        click.echo(f"{location} is up to date")


async def _migrate(url: str, *, dry_run: bool) -> tuple[str, ...]:
    names = await pending_migrations(url)
    if not dry_run:
        # Opening a store brings it up to date.
        store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
        await store.close()
    return names
