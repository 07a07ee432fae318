"""The command ``reefknot demo``."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from reefknot.demo.examples import list_examples, one_example
from reefknot.demo.processes import Processes
from reefknot.demo.report import Report, ending_lines, money
from reefknot.demo.signals import StoppedError, StopSignals
from reefknot.demo.stage import EAST, OPENED_WITH, SERVER, WEST, DemoError, Stage
from reefknot.demo.stories import STORIES, Ending, Tell, perform

FAILED = 1
SLOW_SECONDS = 5.0


@click.command(name="demo", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("name", default="")
@click.option("--list", "lists", is_flag=True, help="List the examples.")
@click.option("--show", is_flag=True, help="Print the program of an example instead of running it.")
@click.option(
    "--write",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Copy an example to this new or empty folder instead of running it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end and nothing else.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep databases, calls and logs in this new or empty folder.",
)
@click.option("--slow", is_flag=True, help="Pause after each story, to read it and to open its URL.")
@click.option(
    "--without-barrier", is_flag=True, help="Switch the banks' barrier off and see the check find the lost money."
)
def command(
    name: str,
    lists: bool,
    show: bool,
    write: Path | None,
    as_json: bool,
    keep: Path | None,
    slow: bool,
    without_barrier: bool,
) -> int:
    """Four money transfers between two banks, with crashes in between; or the example NAME.

    Starts a server and two banks on free ports of 127.0.0.1, each with its own SQLite database;
    kills some of them; checks all the money after each transfer; leaves nothing behind.
    Exit code 0 if every coin is where it must be.

    An example starts the database servers that it needs, if they are installed; it says what is not.

    \b
    Examples:
      reefknot demo
      reefknot demo --list
      reefknot demo transfer                  FastAPI, SQLAlchemy and PostgreSQL
      reefknot demo transfer --write ./mine   your own copy of it
      reefknot demo --keep ./demo --slow
      reefknot demo --without-barrier         money appears from nowhere; exit code 1
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    tell: Tell = _silent if as_json else _print
    if lists or name:
        if keep or slow or without_barrier:
            raise click.UsageError("--keep, --slow and --without-barrier belong to the transfers without a name")
        return (
            list_examples(as_json=as_json)
            if lists
            else one_example(name, tell, show=show, write=write, as_json=as_json)
        )
    if show or write:
        raise click.UsageError("--show and --write want the name of an example; see reefknot demo --list")
    try:
        with StopSignals() as signals, _directory(keep) as directory:
            report = _run(directory, signals, tell, kept=keep is not None, slow=slow, guarded=not without_barrier)
    except StoppedError as stopped:
        click.echo(f"stopped by {stopped}; every process is gone", err=True)
        return 128 + stopped.signum
    except (DemoError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has gone; the interpreter must not try to write the rest.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"the demo could not be carried out: {error}", err=True)
        return FAILED
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return 0 if report.ok else FAILED


def main(args: list[str]) -> int:
    """Run the demo.

    Args:
        args: the words after ``reefknot demo``.

    Returns:
        0 if all is well, 1 if money is not where it must be or the demo could not be carried out,
        128 and the signal's number if it was stopped.

    Raises:
        click.ClickException: the words are wrong.
    """
    result = command.main(args=args, prog_name="reefknot demo", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _run(directory: Path, signals: StopSignals, tell: Tell, *, kept: bool, slow: bool, guarded: bool) -> Report:
    started = time.monotonic()
    endings: list[Ending] = []
    with Processes() as processes, Stage(directory, processes, signals, guarded=guarded) as stage:
        tell("Starting a server and two banks, each with its own database ...")
        stage.start(SERVER, EAST, WEST)
        tell(f"   server  {stage.url(SERVER, '/api/dtmsvr')}")
        for bank, accounts in OPENED_WITH.items():
            tell(f"   {bank}    {stage.url(bank, '/balance')}   {', '.join(name.capitalize() for name in accounts)}")
        tell(f"   {money(stage.books().balances)}")
        for story in STORIES:
            tell(f"\n{story.number}  {story.title}")
            ending = perform(story, stage, tell)
            endings.append(ending)
            for line in ending_lines(ending):
                tell(line)
            if slow and story is not STORIES[-1]:
                signals.sleep(SLOW_SECONDS)
    problems = [problem for ending in endings for problem in ending.problems]
    seconds = round(time.monotonic() - started, 1)
    tell("")
    if problems:
        tell(f"SOMETHING IS OFF ({len(problems)} findings, see WRONG above); {seconds} s")
    else:
        total = endings[-1].total
        tell(
            f"All is well: {len(endings)} transfers, {total} before and after, every booking exactly once; {seconds} s"
        )
    if kept:
        tell(f"The files are in {directory}. To look at the transactions again:")
        tell(f"   reefknot serve --store {stage.store_url} --http-port {stage.ports[SERVER]} --grpc-port 0")
    return Report(
        ok=not problems,
        seconds=seconds,
        stories=endings,
        problems=problems,
        processes=processes.pids,
        directory=str(directory) if kept else "",
    )


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    """An empty folder, gone afterwards unless it is to be kept."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="reefknot-demo-") as name:
            yield Path(name)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise click.UsageError(f"--keep {keep}: the folder is not empty; name a new one")
    yield keep.resolve()


def _print(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _silent(_: str) -> None:
    pass
