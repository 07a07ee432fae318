"""The command line of the benchmark."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from reefknot.bench import report
from reefknot.bench.processes import BenchError
from reefknot.bench.rows import Plan, Storage
from reefknot.bench.selection import Work, choose

_QUICK = (1.0, 0.5)
_LONG = (4.0, 1.5)


def run(args: list[str]) -> int:
    """Run the benchmark that the words ask for and return the exit code."""
    result = bench.main(args=args, prog_name="reefknot bench", standalone_mode=False)
    return result if isinstance(result, int) else 0


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--rows",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Only rows with these parts in their names: saga/64, sqlite, recovery. May be given several times.",
)
@click.option(
    "--store",
    "stores",
    metavar="STORE",
    multiple=True,
    help="memory, sqlite, or a store URL; several times. Default: memory and sqlite.",
)
@click.option("--quick", is_flag=True, help="One second for each row: figures to look at, not to keep.")
@click.option("--seconds", type=float, metavar="S", help=f"Length of each row's load; default {_LONG[0]:g}.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the stores keep their files; must be on a disk. Default: the system's temporary directory.",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each server's collapsed stacks there (needs py-spy, distorts the figures).",
)
@click.option("--list", "list_only", is_flag=True, help="Print the names of the rows and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON at the end; progress goes to the error output.")
@click.option(
    "--write",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the results as a page, and beside it as .json.",
)
def bench(
    patterns: tuple[str, ...],
    stores: tuple[str, ...],
    *,
    quick: bool,
    seconds: float | None,
    directory: Path | None,
    profile: Path | None,
    list_only: bool,
    as_json: bool,
    page: Path | None,
) -> int:
    """Measure a running server from other processes: rate, latency, CPU, bytes written, memory, recovery.

    Everything runs on loopback and in temporary directories; nothing is left. All rows take some minutes.

    \b
    Examples:
      reefknot bench                                   everything
      reefknot bench --quick --rows saga/64            one row per store, in seconds
      reefknot bench --rows wait/1 --store sqlite      one client at a time
      reefknot bench --rows recovery                   10,000 due transactions after a SIGKILL
      reefknot bench --rows 1m --store sqlite
      reefknot bench --rows saga/64 --profile /tmp     where the server spends its time
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    length, warm_up = _QUICK if quick else _LONG
    plan = Plan(seconds or length, warm_up, directory or Path(tempfile.gettempdir()), profile)
    chosen = choose(plan, [Storage(name) for name in stores or ("memory", "sqlite")], patterns)
    if list_only:
        for name, _ in chosen:
            click.echo(name)
        return 0
    if not chosen:
        raise click.UsageError("no row has such a name; --list shows them")
    if profile is not None:
        profile.mkdir(parents=True, exist_ok=True)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        done = _measure(chosen, to_stderr=as_json)
    finally:
        signal.signal(signal.SIGTERM, before)
    for line in report.target_lines(done):
        click.echo(line, err=as_json)
    content = report.write_json(done, page.with_suffix(".json") if page else None)
    if as_json:
        click.echo(content, nl=False)
    if page is not None:
        page.write_text(report.markdown(done, plan), encoding="utf-8")
    return 1 if done.failures else 0


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    """Leave through every ``with``, so that no process stays."""
    sys.exit(128 + signum)


def _measure(chosen: list[tuple[str, Work]], *, to_stderr: bool) -> report.Report:
    done = report.Report(made=report.today(), machine=report.machine(), rows=[], facts=[], failures=[])
    click.echo(report.text_header(), err=to_stderr)
    for name, work in chosen:
        if sys.stderr.isatty():
            click.echo(f"… {name}\r", err=True, nl=False)
        try:
            found_rows, found_facts = work()
        except BenchError as error:  # the other rows are worth having
            done.failures.append(f"{name}: {error}")
            click.echo(f"{name} FAILED: {error}", err=True)
            continue
        done.rows += found_rows
        done.facts += found_facts
        report.rate(done.rows)
        for row in found_rows:
            click.echo(report.text_line(row), err=to_stderr)
        for fact in found_facts:
            click.echo(report.fact_line(fact), err=to_stderr)
    return done
