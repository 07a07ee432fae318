"""What is to be reached, and what Go DTM reached with the same workload."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from reefknot.bench.rows import Row
from reefknot.bench.scenarios import Fact

#: What Go DTM 1.19 came to with the same workload on a machine of the same kind.
GO_DTM = (
    ("embedded (boltdb), full durability", "520", "1,517"),
    ("Postgres", "560-710", "1,376-1,687"),
    ("MariaDB", "705-762", "1,213"),
    ("Redis, append-only file always", "2,303", "448"),
    ("Redis, append-only file off", "2,937", "434"),
)


class Report(msgspec.Struct, kw_only=True):
    """Everything that was measured, and on what.

    ``stores`` has what each store says about its durability, ``left_out`` what could not be measured here.
    """

    made: str
    machine: dict[str, str]
    rows: list[Row]
    facts: list[Fact]
    failures: list[str]
    stores: dict[str, str] = msgspec.field(default_factory=dict)
    left_out: list[str] = msgspec.field(default_factory=list)


Find = Callable[[Report], tuple[float, str] | None]


class Target(msgspec.Struct, frozen=True):
    """A figure to reach: ``text`` says it, ``find`` gets ours from a report, ``most`` and ``least`` bound it.

    ``reference`` is Go DTM's figure.
    """

    text: str
    find: Find
    most: float = float("inf")
    least: float = float("-inf")
    reference: str = "-"

    def line(self, report: Report) -> str | None:
        """A row of the table of targets; None if the report does not say."""
        found = self.find(report)
        if found is None:
            return None
        value, unit = found
        met = "met" if self.least <= value <= self.most else "**not met**"
        return f"| {self.text} | {value:,.1f} {unit} | {self.reference} | {met} |"


def _of_row(name: str, read: Callable[[Row], float], unit: str) -> Find:
    def find(report: Report) -> tuple[float, str] | None:
        return next(((read(row), unit) for row in report.rows if row.name == name), None)

    return find


def _of_fact(name: str) -> Find:
    def find(report: Report) -> tuple[float, str] | None:
        return next(((fact.value, fact.unit) for fact in report.facts if fact.name == name), None)

    return find


def _growth(report: Report) -> tuple[float, str] | None:
    values = {fact.name: fact.value for fact in report.facts}
    half, whole = values.get("sqlite/memory/open half"), values.get("sqlite/memory/open")
    return None if half is None or whole is None else ((whole / half - 1) * 100, "%")


def _of_one_master(masters: int) -> Find:
    """CPU of the busiest master for each saga, in percent of that of a cluster's only one."""

    def find(report: Report) -> tuple[float, str] | None:
        busiest = {row.name: row.busiest_us for row in report.rows}
        one = busiest.get("redis-cluster-1/saga/64")
        many = busiest.get(f"redis-cluster-{masters}/saga/64")
        return (many / one * 100, "%") if one and many else None

    return find


def _rate(label: str, text: str, least: int, reference: str) -> Target:
    find = _of_row(f"{label}/saga/64", lambda row: row.rate, "sagas/s")
    return Target(f"{text}, 64 connections, saga: at least {least:,} sagas/s", find, least=least, reference=reference)


def _cpu(label: str, text: str, most: int, reference: str) -> Target:
    find = _of_row(f"{label}/saga/64", lambda row: row.cpu_us, "µs")
    return Target(
        f"{text}, the same: at most {most} µs CPU of our processes for each saga", find, most, reference=reference
    )


def _claims(label: str, text: str, least: int) -> tuple[Target, ...]:
    rate = f"{text}, store alone: at least {least:,} claims/s in batches of 100"
    return (
        Target(rate, _of_fact(f"{label}/claims/1"), least=least),
        Target(f"{text}, two processes at once: nothing claimed twice", _of_fact(f"{label}/claims/2/twice"), 0),
    )


def _purge(label: str, text: str) -> Target:
    find = _of_fact(f"{label}/purge/loss")
    return Target(f"{text}, 1 M finished transactions being purged: at most 5 % fewer sagas/s", find, 5)


TARGETS = (
    _rate("sqlite", "SQLite", 6_000, "520"),
    _cpu("sqlite", "SQLite", 180, "1,517"),
    Target(
        "SQLite, one client, wait_result: p50 at most 3 ms", _of_row("sqlite/wait/1", lambda r: r.p50_ms, "ms"), 3.0
    ),
    Target(
        "SQLite, 64 clients, saga and branches over gRPC: at most 700 µs CPU of our processes for each saga",
        _of_row("sqlite/grpc/64", lambda row: row.cpu_us, "µs"),
        700,
    ),
    Target(
        "a gRPC port that nobody uses: at most 3 % more CPU for each saga over HTTP", _of_fact("sqlite/grpc-idle"), 3
    ),
    Target("1 M finished transactions in the file: at most 10 % more CPU", _of_fact("sqlite/full/cpu"), 10),
    Target("resident memory, idle: at most 120 MiB", _of_fact("sqlite/memory/idle"), 120),
    Target("memory bounded: 10,000 open take at most 10 % more than 5,000", _growth, 10),
    Target("10,000 due after a SIGKILL, healthy: finished within 10 s", _of_fact("sqlite/recovery/healthy"), 10),
    Target("the same, 200 of them on a hanging host: the others within 10 s", _of_fact("sqlite/recovery/hanging"), 10),
    Target("Python client, saga submit: at most 400 µs CPU of the caller", _of_fact("memory/sdk/sync"), 400),
    Target("the same, asynchronous client: at most 150 µs", _of_fact("memory/sdk/async"), 150),
    _rate("postgres", "PostgreSQL", 4_500, "560-710"),
    _cpu("postgres", "PostgreSQL", 200, "1,376-1,687"),
    *_claims("postgres", "PostgreSQL", 30_000),
    Target("two nodes on one PostgreSQL: each at least 90 % of half", _of_fact("postgres/nodes/share"), least=90),
    Target("the same: no branch called twice", _of_fact("postgres/nodes/twice"), 0),
    _rate("mariadb", "MariaDB", 4_000, "705-762"),
    _cpu("mariadb", "MariaDB", 200, "1,213"),
    *_claims("mariadb", "MariaDB", 15_000),
    _rate("redis-always", "Redis, append-only file always", 4_600, "2,303"),
    _cpu("redis-always", "Redis, append-only file always", 200, "448"),
    *_claims("redis-always", "Redis, append-only file always", 15_000),
    _rate("redis-off", "Redis, append-only file off", 5_000, "2,937"),
    _cpu("redis-off", "Redis, append-only file off", 200, "434"),
    *_claims("redis-off", "Redis, append-only file off", 15_000),
    _purge("sqlite", "SQLite"),
    _purge("postgres", "PostgreSQL"),
    _purge("mariadb", "MariaDB"),
    _purge("redis-always", "Redis, append-only file always"),
    # In proportion, a fifth more for slots that are not used evenly.
    Target("Redis Cluster of 2: CPU of a master for each saga at most 60 % of one's", _of_one_master(2), 60),
    Target("Redis Cluster of 3: CPU of a master for each saga at most 40 % of one's", _of_one_master(3), 40),
)
