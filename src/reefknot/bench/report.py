"""The report: lines on the terminal, JSON, and the page that ``--write`` makes."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import apsw
import msgspec

from reefknot import __version__
from reefknot.bench.rows import Plan, Row
from reefknot.bench.scenarios import Fact
from reefknot.bench.targets import GO_DTM, TARGETS, Report

_LIBRARIES = ("uvicorn", "uvloop", "httptools", "msgspec", "apsw", "asyncpg", "asyncmy", "hiredis")
_COLUMNS = (
    "row",
    "tx/s",
    "p50 ms",
    "p99 ms",
    "server µs",
    "store µs",
    "our µs",
    "db µs",
    "busiest µs",
    "KiB",
    "of echo",
    "x echo cpu",
    "of ceiling",
    "drain s",
    "others %",
    "spread %",
)

#: From so much of one core, in percent, that others used, a run's rates say little.
_BUSY_PERCENT = 20

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
  for each transaction, **store** that of its other threads and of its writer process, **our** both together, all
  from `/proc`. **db** is the CPU time of the database server's processes, **busiest** that of the busiest
  master of a cluster. **KiB** is what our processes wrote to disk.
* **echo** is a bare ASGI application on the same server stack that reads the body and answers a constant;
  **of echo** is the rate over that of echo with as many connections,
  **x echo cpu** the CPU time over echo's, which says most on a busy machine. **ceiling** is the store alone under 64
  drivers that only create and write twice; **of ceiling** is the rate over that.
* **claims** the store alone: processes that take what is due in batches of 100, each one batch at a time, as nodes
  do after a crash. **nodes** one server, two over the same store, and one again, with the same connections and on the
  same cores: each of the two should get half of what the one did.
* **grpc** the saga submitted over gRPC, with branches over gRPC. **grpc-idle** the saga over HTTP on two servers, one
  of which has a gRPC port that nobody uses, in turns.
* **sdk** what a submit through the Python client costs the program that calls it: making the saga, sending it over a
  kept connection, reading the answer.
* **purge** (only if asked for) a million finished transactions in the store, and the main row on servers that keep
  them and on servers that purge them, in turns; then a server without clients goes on with the purge, for two minutes
  at most. Its figures are medians; every pair is named.
* **drain** is the time from the last acknowledgement to the last transaction's end. **others** is what
  processes without a part in this used meanwhile, in percent of one core: where it is not near 0, believe
  the CPU times and the ratios, not the rates.
"""

_ROUNDS = """\
* **spread** every row was measured {rounds} times, all rows in turns: what stands here is the round that took the least
  CPU time, and this what the dearest took more. Other machines on the same host can only make a round dearer; how fast
  this one was between the rows stands under **speed**.
"""


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cores = str(len(os.sched_getaffinity(0)))
    libraries = ", ".join(filter(None, map(_library, _LIBRARIES)))
    return {
        "Reefknot": __version__,
        "cores": cores,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": libraries,
        "SQLite": apsw.sqlite_lib_version(),
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _library(name: str) -> str:
    """A library with its version; empty if it is not installed."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


def pace() -> float:
    """How long this machine takes now for a fixed piece of work, in milliseconds of CPU time."""
    started = time.process_time()
    total = 0
    for number in range(500_000):
        total += number
    return (time.process_time() - started) * 1000


def speed(paces: Sequence[float]) -> str:
    """What ``pace`` came to between the rows, as text."""
    if not paces:
        return "not measured"
    least, most = min(paces), max(paces)
    return f"a fixed loop took {least:.0f} to {most:.0f} ms between the rows, {median(paces):.0f} ms in the middle"


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
        _figure(row.database_us, 0),
        _figure(row.busiest_us if row.busiest_us < row.database_us else 0.0, 0),
        _figure(row.written_kib, 1),
        _figure(row.echo_ratio, 2),
        _figure(row.echo_cpu_ratio, 1),
        _figure(row.ceiling_ratio, 2),
        _figure(row.drain_seconds, 2),
        f"{row.other_percent:.0f}",
        _figure(row.spread_percent, 0),
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


def markdown(report: Report, plan: Plan, rounds: int = 1) -> str:
    """The whole page, of rows that were measured in so many rounds."""
    lines = ["# Benchmark results", "", f"Made by `reefknot bench --write` on {report.made}. Do not edit.", ""]
    lines += ["## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in report.machine.items()]
    lines += _disturbance(report)
    if report.stores:
        lines += ["", "## Stores", "", "| store | durability, as it says |", "|---|---|"]
        lines += [f"| {label} | {text} |" for label, text in report.stores.items()]
    if report.left_out:
        lines += ["", "Left out, so nothing below is about them:", "", *(f"* {text}" for text in report.left_out)]
    lines += ["", "## Targets", "", "Go DTM's figures are quoted, see the end of the page.", ""]
    lines += ["| target | measured | Go DTM | |", "|---|---|---|---|", *target_lines(report)]
    lines += ["", "## Rates", "", "Per transaction unless it says otherwise; the method is below.", ""]
    lines += [f"| {' | '.join(_COLUMNS)} |", "|---" + "|---:" * (len(_COLUMNS) - 1) + "|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in report.rows]
    lines += [
        "",
        "## Memory, recovery, full store, gRPC port, claims, two nodes, Python client, purge",
        "",
        "| figure | value | how |",
        "|---|---:|---|",
    ]
    lines += [f"| {fact.name} | {fact.value:,.1f} {fact.unit} | {fact.text} |" for fact in report.facts]
    if report.failures:
        lines += ["", "## Rows that failed", "", *(f"* {failure}" for failure in report.failures)]
    method = _METHOD.format(warm_up=plan.warm_up_seconds, seconds=plan.seconds)
    lines += ["", "## Method", "", method + (_ROUNDS.format(rounds=rounds) if rounds > 1 else "")]
    lines += ["## For comparison: Go DTM", ""]
    lines += [
        "Measured earlier with two HTTP branches per saga on two shared cores, load and services on the same ones;"
    ]
    lines += ["quoted here, not measured in this run.", "", "| store | sagas/s | µs CPU per saga |", "|---|---:|---:|"]
    lines += [f"| {store} | {rate_text} | {cpu} |" for store, rate_text, cpu in GO_DTM]
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
