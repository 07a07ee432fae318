"""``reefknot demo NAME``: examples listed, shown, copied, run."""

from __future__ import annotations

import difflib
import shutil
import sys
from pathlib import Path

import click
import msgspec

from reefknot.cli.output import emit
from reefknot.demo.stories import Tell

_FAILED = 1
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def list_examples(*, as_json: bool) -> int:
    """Print every example; the exit code."""
    from reefknot.demo.gallery import examples  # noqa: PLC0415 - starts faster without the test kit

    found = examples().values()
    rows: list[dict[str, object]] = [
        {"name": one.name, "needs": ", ".join(one.needs), "shows": one.title} for one in found
    ]
    emit(rows, as_json=as_json)
    return 0


def one_example(name: str, tell: Tell, *, show: bool, write: Path | None, as_json: bool) -> int:
    """Run an example, or print or copy it.

    Args:
        name: as listed.
        tell: is called with each line that it prints.
        show: print its program instead.
        write: copy it to this folder instead.
        as_json: print one JSON object at its end.

    Returns:
        The exit code: that of the example's program if it was run.

    Raises:
        click.ClickException: there is no such example, or the folder is not empty.
    """
    from reefknot.demo.gallery import ExampleError, Servers, examples, run  # noqa: PLC0415 - as above

    found = examples()
    if name not in found:
        close = difflib.get_close_matches(name, found, 1)
        hint = f"did you mean {close[0]}?" if close else "see reefknot demo --list"
        raise click.UsageError(f"there is no example {name!r}; {hint}")
    example = found[name]
    if show:
        click.echo((example.folder / "main.py").read_text("utf-8"), nl=False)
        return 0
    if write is not None:
        if write.exists() and any(write.iterdir()):
            raise click.UsageError(f"--write {write}: the folder is not empty; name a new one")
        shutil.copytree(example.folder, write, dirs_exist_ok=True, ignore=_LEFT_OUT)
        tell(f"{example.name} is in {write}; its README says how to start it")
        return 0
    tell(f"{example.title}\n")
    try:
        with Servers() as servers:
            finished = run(example, servers, tell)
    except ExampleError as error:
        sys.stderr.write(f"{error}\n")
        return _FAILED
    if as_json:
        row = {"example": name, "exit_code": finished.exit_code, "seconds": finished.seconds, "output": finished.output}
        click.echo(msgspec.json.format(msgspec.json.encode(row), indent=2))
    return finished.exit_code
