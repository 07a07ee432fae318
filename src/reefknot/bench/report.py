"""The report: lines on the terminal, JSON, and the page that ``--write`` makes."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import apsw
import msgspec

from reefknot import __version__
from reefknot.bench.rows import Plan, Row
from reefknot.bench.scenarios import Fact

_LIBRARIES = ("uvicorn", "uvloop", "httptools", "msgspec", "apsw")
_COLUMNS = (
    "row",
    "tx/s",
    "p50 ms",
    "p99 ms",
    "server µs",
    "store µs",
    "total µs",
    "KiB",
    "of echo",
    "x echo cpu",
    "of ceiling",
    "drain s",
    "others %",
)

#: From so much of one core, in percent, that others used, a run's rates say little.
_BUSY_PERCENT = 20

#: What Go DTM 1.19 came to with the same workload on a machine of the same kind.
_GO_DTM = (
    ("embedded (boltdb), full durability", "520", "1,517"),
    ("Postgres", "560-710", "1,376-1,687"),
    ("MariaDB", "705-762", "1,213"),
    ("Redis, append-only file always", "2,303", "448"),
    ("Redis, append-only file off", "2,937", "434"),
)

_METHOD = """\
The server is a process of its own on a fresh store (SQLite: WAL, synchronous=FULL, on disk). The business
service (a null service: fixed answers), the load generator and the stores' ceiling are processes of their
own too. All of them share the machine's cores, over loopback. Each row: a fresh server, a warm-up of
{warm_up:g} s that is not counted, then {seconds:g} s of load; the clock stops when no transaction is
unfinished, not when the last one is acknowledged.

* **saga** two HTTP branches, answered when it is stored; **empty** the same without URLs; **wait** the same,
  answered when it is finished (`wait_result`); **msg** two receivers; **tcc** prepare, two registrations, submit.
  The number is that of the connections, each with one request in flight.
* **p50, p99** of the last request of each transaction. **server** is the CPU time of the server's main thread
  for each transaction, **store** that of its other threads and of its writer process, from `/proc`. **KiB** is
  what they wrote to disk.
* **echo** is a bare ASGI application on the same server stack that reads the body and answers a constant;
  **of echo** is the rate over that of echo with as many connections,
  **x echo cpu** the CPU time over echo's, which says most on a busy machine. **ceiling** is the store alone under 64
  drivers that only write; **of ceiling** is the rate over that.
* **drain** is the time from the last acknowledgement to the last transaction's end. **others** is what
  processes without a part in this used meanwhile, in percent of one core: where it is not near 0, believe
  the CPU times and the ratios, not the rates.
"""


class Report(msgspec.Struct, kw_only=True):
    """Everything that was measured, and on what."""

    made: str
    machine: dict[str, str]
    rows: list[Row]
    facts: list[Fact]
    failures: list[str]


class Target(msgspec.Struct, frozen=True):
    """A figure to reach: ``text`` says it, ``find`` gets ours from a report, ``met`` compares."""

    text: str
    find: Callable[[Report], tuple[float, str] | None]
    most: float = float("inf")
    least: float = 0.0

    def line(self, report: Report) -> str | None:
        """A row of the table of targets; None if the report does not say."""
        found = self.find(report)
        if found is None:
            return None
        value, unit = found
        met = "met" if self.least <= value <= self.most else "**not met**"
        return f"| {self.text} | {value:,.1f} {unit} | {met} |"


def _of_row(name: str, read: Callable[[Row], float], unit: str) -> Callable[[Report], tuple[float, str] | None]:
    def find(report: Report) -> tuple[float, str] | None:
        return next(((read(row), unit) for row in report.rows if row.name == name), None)

    return find


def _of_fact(name: str) -> Callable[[Report], tuple[float, str] | None]:
    def find(report: Report) -> tuple[float, str] | None:
        return next(((fact.value, fact.unit) for fact in report.facts if fact.name == name), None)

    return find


def _growth(report: Report) -> tuple[float, str] | None:
    values = {fact.name: fact.value for fact in report.facts}
    half, whole = values.get("sqlite/memory/open half"), values.get("sqlite/memory/open")
    return None if half is None or whole is None else ((whole / half - 1) * 100, "%")


TARGETS = (
    Target(
        "SQLite, 64 connections, saga: at most 180 µs CPU", _of_row("sqlite/saga/64", lambda r: r.cpu_us, "µs"), 180
    ),
    Target("the same: at least 6,000 sagas/s", _of_row("sqlite/saga/64", lambda r: r.rate, "sagas/s"), least=6_000),
    Target(
        "SQLite, one client, wait_result: p50 at most 3 ms", _of_row("sqlite/wait/1", lambda r: r.p50_ms, "ms"), 3.0
    ),
    Target("1 M finished transactions in the file: at most 10 % more CPU", _of_fact("sqlite/full/cpu"), 10, -100),
    Target("resident memory, idle: at most 120 MiB", _of_fact("sqlite/memory/idle"), 120),
    Target("memory bounded: 10,000 open take at most 10 % more than 5,000", _growth, 10, -100),
    Target("10,000 due after a SIGKILL, healthy: finished within 10 s", _of_fact("sqlite/recovery/healthy"), 10),
    Target("the same, 200 of them on a hanging host: the others within 10 s", _of_fact("sqlite/recovery/hanging"), 10),
)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cores = str(len(os.sched_getaffinity(0)))
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return {
        "Reefknot": __version__,
        "cores": cores,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": libraries,
        "SQLite": apsw.sqlite_lib_version(),
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def today() -> str:
    """The date and the time now, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def rate(rows: Sequence[Row]) -> None:
    """Fill in the ratios to echo and to the store's ceiling, where the rows are there."""
    rates = {row.name: row.rate for row in rows}
    costs = {row.name: row.cpu_us for row in rows}
    for row in rows:
        store, _, rest = row.name.partition("/")
        if "/" not in rest:
            continue
        connections = rest.split("/")[1].split(" ")[0]
        row.echo_ratio = row.rate / rates.get(f"echo/{connections}", float("inf"))
        row.echo_cpu_ratio = row.cpu_us / costs.get(f"echo/{connections}", float("inf"))
        row.ceiling_ratio = row.rate / rates.get(f"{store}/ceiling", float("inf"))


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table, as text."""
    return (
        row.name,
        f"{row.rate:,.0f}",
        _figure(row.p50_ms, 2),
        _figure(row.p99_ms, 2),
        _figure(row.server_us, 0),
        _figure(row.store_us, 0),
        _figure(row.cpu_us, 0),
        _figure(row.written_kib, 1),
        _figure(row.echo_ratio, 2),
        _figure(row.echo_cpu_ratio, 1),
        _figure(row.ceiling_ratio, 2),
        _figure(row.drain_seconds, 2),
        f"{row.other_percent:.0f}",
    )


def _figure(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if value else "-"


def text_header() -> str:
    """The heads of the columns, for the terminal."""
    return _text(_COLUMNS)


def text_line(row: Row) -> str:
    """One row, for the terminal."""
    return _text(cells(row))


def _text(parts: Sequence[str]) -> str:
    return f"{parts[0]:<42}" + "".join(f"{part:>11}" for part in parts[1:])


def fact_line(fact: Fact) -> str:
    """One figure, for the terminal."""
    return f"{fact.name:<42}{fact.value:>11,.1f} {fact.unit}  ({fact.text})"


def target_lines(report: Report) -> list[str]:
    """The targets that the report says something about, as rows of a table."""
    return [line for target in TARGETS if (line := target.line(report)) is not None]


def markdown(report: Report, plan: Plan) -> str:
    """The whole page."""
    lines = ["# Benchmark results", "", f"Made by `reefknot bench --write` on {report.made}. Do not edit.", ""]
    lines += ["## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in report.machine.items()]
    lines += _disturbance(report)
    lines += ["", "## Targets", "", "| target | measured | |", "|---|---|---|", *target_lines(report)]
    lines += ["", "## Rates", "", "Per transaction unless it says otherwise; the method is below.", ""]
    lines += [f"| {' | '.join(_COLUMNS)} |", "|---" + "|---:" * (len(_COLUMNS) - 1) + "|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in report.rows]
    lines += ["", "## Memory, recovery, full store", "", "| figure | value | how |", "|---|---:|---|"]
    lines += [f"| {fact.name} | {fact.value:,.1f} {fact.unit} | {fact.text} |" for fact in report.facts]
    if report.failures:
        lines += ["", "## Rows that failed", "", *(f"* {failure}" for failure in report.failures)]
    lines += ["", "## Method", "", _METHOD.format(warm_up=plan.warm_up_seconds, seconds=plan.seconds)]
    lines += ["## For comparison: Go DTM", ""]
    lines += [
        "Measured earlier with two HTTP branches per saga on two shared cores, load and services on the same ones;"
    ]
    lines += ["quoted here, not measured in this run.", "", "| store | sagas/s | µs CPU per saga |", "|---|---:|---:|"]
    lines += [f"| {store} | {rate_text} | {cpu} |" for store, rate_text, cpu in _GO_DTM]
    return "\n".join(lines) + "\n"


def _disturbance(report: Report) -> list[str]:
    """What the reader must know about the machine's other work during the run."""
    disturbed = [row.other_percent for row in report.rows if row.other_percent > _BUSY_PERCENT]
    if not disturbed:
        return []
    told = f"**The machine was busy:** during {len(disturbed)} of {len(report.rows)} rows other processes used"
    told += f" {min(disturbed):.0f} to {max(disturbed):.0f} % of one core. Rates and latencies are worse than on an"
    return ["", told + " idle machine, and CPU times too, as caches are shared out. Repeat the run when it is idle."]


def write_json(report: Report, path: Path | None) -> bytes:
    """The report as JSON; also written to a file if there is one."""
    content = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    if path is not None:
        path.write_bytes(content)
    return content
