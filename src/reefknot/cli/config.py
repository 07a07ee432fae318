"""``reefknot config``: what the settings are and where they came from."""

from __future__ import annotations

from pathlib import Path

import click

from reefknot.cli.output import emit
from reefknot.cli.settings import config_option, load_settings, tell_notices
from reefknot.config import Secret, all_keys
from reefknot.config.reference import markdown_table
from reefknot.errors import ConfigError

_JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("config")
def config_group() -> None:
    """Show and check the settings."""


@config_group.command()
@config_option
@_JSON_OPTION
@click.pass_context
def show(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Print every setting, its value and where the value came from; secrets are masked.

    \b
    Example:
      HTTP_PORT=8080 reefknot config show -c conf.yml
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    loaded = load_settings(context, file, {})
    tell_notices(loaded)
    rows: list[dict[str, object]] = []
    for key in all_keys():
        value = key.read(loaded.config)
        plain = isinstance(value, int) and not isinstance(value, Secret)
        shown = value if plain else key.show(loaded.config)
        rows.append({"key": key.name, "value": shown, "origin": loaded.origin(key.name)})
    emit(rows, as_json=as_json)


@config_group.command()
@config_option
@click.pass_context
def check(context: click.Context, file: Path | None) -> None:
    """Check the settings without starting anything: exit code 0 or 2.

    \b
    Example:
      reefknot config check -c conf.yml
    """  # noqa: D301 - as above
    from reefknot.callers.resolve import read_settings
    from reefknot.checks import check_settings
    from reefknot.store import check_url

    loaded = load_settings(context, file, {})
    tell_notices(loaded)
    location = loaded.config.store.location()
    try:
        check_url(location.reveal())
    except ConfigError as error:
        raise ConfigError(f"Store {location}: {error}") from error
    read_settings(loaded.config)
    check_settings(loaded.config)
    click.echo(f"the configuration is valid; the store is {location}")


@config_group.command()
@_JSON_OPTION
@click.option("--markdown", is_flag=True, help="Print the table of docs/configuration.md.")
def keys(as_json: bool, markdown: bool) -> None:
    """List every setting with its environment variable, default and meaning.

    \b
    Example:
      reefknot config keys
    """  # noqa: D301 - as above
    if markdown:
        click.echo(markdown_table(), nl=False)
        return
    rows: list[dict[str, object]] = [
        {"key": key.name, "environment": key.variables[-1], "default": str(key.default), "meaning": key.meaning}
        for key in all_keys()
    ]
    emit(rows, as_json=as_json)
