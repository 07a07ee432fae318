"""What the commands share: the option ``-c`` and reading the settings with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from reefknot.config import Loaded, load

config_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML file with the settings.",
)

store_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--store",
    metavar="URL",
    help="The store, for example sqlite:///reefknot.db.",
)


def load_settings(context: click.Context, file: Path | None, flags: Mapping[str, object | None]) -> Loaded:
    """Read the settings of this process.

    Args:
        context: the command's; ``-c`` may also stand before the command's name.
        file: the file named at the command itself.
        flags: values from the command line by YAML path; ``None`` is not given.

    Raises:
        ConfigError: a setting is wrong.
    """
    root = context.find_root().params
    given = {name: str(value) for name, value in flags.items() if value is not None}
    if root.get("debug"):
        given["LogLevel"] = "debug"
    return load(file or root.get("file"), os.environ, given)


def tell_notices(loaded: Loaded) -> None:
    """Print what the operator should know about the settings, to standard error."""
    for notice in loaded.notices:
        click.echo(f"reefknot: {notice}", err=True)
