"""The command line of the benchmark."""

from __future__ import annotations

import http.client
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from reefknot.bench import report
from reefknot.bench.processes import BenchError
from reefknot.bench.rows import Plan, Row, Storage, cheapest, durability_of
from reefknot.bench.selection import ON_REQUEST, Work, choose
from reefknot.bench.targets import Report

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
    help="memory, sqlite, or NAME=URL of an empty store that the rows fill and empty; several times."
    " Default: memory and sqlite.",
)
@click.option(
    "--store-pid",
    "pids",
    metavar="NAME=PID",
    multiple=True,
    help="The database server's process on this machine, which stands for its children too; several times.",
)
@click.option("--server", "servers", metavar="TEXT", multiple=True, help="A database server's version, for the page.")
@click.option(
    "--left-out", metavar="TEXT", multiple=True, help="A store that cannot be measured here, and why, for the page."
)
@click.option("--quick", is_flag=True, help="One second for each row: figures to look at, not to keep.")
@click.option("--seconds", type=float, metavar="S", help=f"Length of each row's load; default {_LONG[0]:g}.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 99),
    default=1,
    metavar="N",
    help="Measure every row N times, all rows in turns; the cheapest round counts, and the spread is told.",
)
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
    pids: tuple[str, ...],
    servers: tuple[str, ...],
    left_out: tuple[str, ...],
    *,
    quick: bool,
    seconds: float | None,
    rounds: int,
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
      reefknot bench --rounds 3 --rows saga/64         on a machine that is not always equally fast
      reefknot bench --rows wait/1 --store sqlite      one client at a time
      reefknot bench --rows recovery                   10,000 due transactions after a SIGKILL
      reefknot bench --rows 1m --store sqlite
      reefknot bench --rows purge --store sqlite       1,000,000 purged under load; only if asked for
      reefknot bench --rows saga/64 --profile /tmp     where the server spends its time
      reefknot bench --store pg=postgres://me:pw@127.0.0.1/empty --store-pid pg=4711
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    length, warm_up = _QUICK if quick else _LONG
    plan = Plan(seconds or length, warm_up, directory or Path(tempfile.gettempdir()), profile)
    storages = _storages(stores or ("memory", "sqlite"), pids)
    chosen = choose(plan, storages, patterns)
    if list_only:
        more = () if patterns else choose(plan, storages, ON_REQUEST)
        for name in dict.fromkeys(name for name, _ in (*chosen, *more)):
            click.echo(name)
        return 0
    if not chosen:
        raise click.UsageError("no row has such a name; --list shows them")
    if profile is not None:
        profile.mkdir(parents=True, exist_ok=True)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        done = _measure(storages, chosen, rounds, to_stderr=as_json)
        done.left_out += left_out
        if servers:
            done.machine["database servers"] = "; ".join(dict.fromkeys(servers))
    finally:
        signal.signal(signal.SIGTERM, before)
    for line in report.target_lines(done):
        click.echo(line, err=as_json)
    content = report.write_json(done, page.with_suffix(".json") if page else None)
    if as_json:
        click.echo(content, nl=False)
    if page is not None:
        page.write_text(report.markdown(done, plan, rounds), encoding="utf-8")
    return 1 if done.failures else 0


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    """Leave through every ``with``, so that no process stays."""
    sys.exit(128 + signum)


def _storages(stores: Sequence[str], pids: Sequence[str]) -> list[Storage]:
    """The stores that the words name.

    Raises:
        click.UsageError: a word cannot be read, or names no store.
    """
    addresses: dict[str, str] = {}
    for word in stores:
        # A URL alone is named after its scheme: it may have a password, which no page should show.
        name, address = ("", word) if re.match(r"[\w+.-]+://", word) else word.partition("=")[::2]
        name = name or address.partition("://")[0]
        if not re.fullmatch(r"[\w+.-]+", name):
            raise click.UsageError(f"{name!r} is no name for a store: letters, digits, - and _")
        if name in addresses:
            raise click.UsageError(f"two stores are called {name}")
        addresses[name] = address
    processes: dict[str, list[int]] = {name: [] for name in addresses}
    for word in pids:
        name, _, pid = word.partition("=")
        if name not in addresses or not pid.isdecimal():
            raise click.UsageError(f"--store-pid {word}: write NAME=PID with the name of a --store")
        processes[name].append(int(pid))
    return [Storage(name, address, tuple(processes[name])) for name, address in addresses.items()]


def _ready(storages: Sequence[Storage], chosen: Sequence[tuple[str, Work]], done: Report) -> set[str]:
    """The labels of the stores that can be measured; the others are among the failures."""
    ready = {"echo"}
    for storage in storages:
        if any(name.startswith(f"{storage.label}/") for name, _ in chosen):
            try:
                if storage.address:
                    done.stores[storage.label] = durability_of(storage)
                ready.add(storage.label)
            except BenchError as error:
                done.failures.append(f"{storage.label}: {error}")
                click.echo(f"{storage.label} FAILED: {error}", err=True)
    return ready


def _measure(
    storages: Sequence[Storage], chosen: Sequence[tuple[str, Work]], rounds: int, *, to_stderr: bool
) -> Report:
    done = Report(made=report.today(), machine=report.machine(), rows=[], facts=[], failures=[])
    ready = _ready(storages, chosen, done)
    works = [(name, work) for name, work in chosen if name.partition("/")[0] in ready]
    tries: dict[str, list[Row]] = {}
    once: set[str] = set()  # what takes its own medians, and what failed
    paces: list[float] = []
    click.echo(report.text_header(), err=to_stderr)
    for turn, (name, work) in product(range(1, rounds + 1), works):
        if name in once:
            continue
        if sys.stderr.isatty():
            click.echo(f"… {name}, round {turn} of {rounds}\r", err=True, nl=False)
        paces.append(report.pace())
        try:
            found_rows, found_facts = work()
        except (BenchError, OSError, http.client.HTTPException) as error:  # the other rows are worth having
            once.add(name)
            done.failures.append(f"{name}: {error}")
            click.echo(f"{name} FAILED: {error}", err=True)
            continue
        if found_facts:
            once.add(name)
        done.facts += found_facts
        for row in found_rows:
            tries.setdefault(row.name, []).append(row)
        report.rate([*map(cheapest, tries.values()), *found_rows])
        for row in found_rows:
            click.echo(report.text_line(row), err=to_stderr)
        for fact in found_facts:
            click.echo(report.fact_line(fact), err=to_stderr)
    done.rows = [cheapest(each) for each in tries.values()]
    report.rate(done.rows)
    done.machine["speed"] = report.speed(paces)
    return done
