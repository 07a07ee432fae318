"""What the command line does with a store itself: delete everything."""

from __future__ import annotations

import asyncio
import sys

import click

from reefknot.clock import SystemClock
from reefknot.config import SecretUrl
from reefknot.failpoints import disarmed
from reefknot.store import open_store


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
