"""Runs a command and turns what it raises into a message and an exit code."""

from __future__ import annotations

import click

from reefknot.cli import FAILED, USAGE
from reefknot.cli.commands import root
from reefknot.errors import ConfigError, ReefknotError


def run(args: list[str]) -> int:
    """Run the command that the words name and return the exit code."""
    try:
        result = root.main(args=args, prog_name="reefknot", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("reefknot: stopped, nothing changed", err=True)
        return FAILED
    except ConfigError as error:
        _complain(error)
        return USAGE
    except ReefknotError as error:
        _complain(error)
        return FAILED
    return result if isinstance(result, int) else 0


def _complain(error: ReefknotError) -> None:
    for line in str(error).splitlines():
        click.echo(f"reefknot: {line}", err=True)
