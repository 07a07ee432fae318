"""Every row by its name, and which of them are wanted."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from reefknot.bench import retention, rows, scenarios, sdk, sharing
from reefknot.bench.rows import Plan, Row, Storage
from reefknot.bench.scenarios import Fact

Work = Callable[[], tuple[list[Row], list[Fact]]]

_CONNECTIONS = (1, 16, 64)
_WORKLOADS = (
    *(("saga", connections) for connections in _CONNECTIONS),
    ("empty", 64),
    ("wait", 1),
    ("wait", 64),
    ("msg", 64),
    ("tcc", 64),
)
#: Of a store that exists.
_WORKLOADS_SHARED = (("saga", 64), ("saga", 16), ("saga", 1), ("wait", 1))
_OPEN = 10_000
_DUE = 10_000
_FINISHED = 1_000_000
#: Pairs of loads without and with the purge.
_ROUNDS = 6
#: Loads on each of the servers with and without a gRPC port.
_IDLE_ROUNDS = 5
#: Rows that take minutes: only measured if a pattern ends in their name.
ON_REQUEST = ("purge",)
#: Works that make rows of so many connections among others.
_WITHIN: Mapping[int, tuple[str, ...]] = {1: (), 16: (), 64: ("/1m", "/nodes", "/purge")}


def choose(plan: Plan, stores: Sequence[Storage], patterns: Sequence[str]) -> list[tuple[str, Work]]:
    """The rows that are wanted, after the yardsticks that they are compared with.

    Args:
        plan: how to measure.
        stores: the stores to measure.
        patterns: whole parts of a name, for example ``saga/64``, ``sqlite`` or ``sqlite/*/1``; if empty, all rows
            but those on request.
    """
    echoes = {n: f"echo/{n}" for n in _CONNECTIONS}
    named = [row for storage in stores for row in _of_store(plan, storage)]
    wanted = [(name, work) for name, work in named if _matches(name, patterns)]
    names = [name for name, _ in wanted]
    yardsticks = [
        (echo, _one(rows.echo, plan, n))
        for n, echo in echoes.items()
        if _matches(echo, patterns) or any(name.endswith((f"/{n}", *_WITHIN[n])) for name in names)
    ]
    for storage in stores:
        ceiling = f"{storage.label}/ceiling"
        if _matches(ceiling, patterns) or any(name.startswith(f"{storage.label}/saga/") for name in names):
            yardsticks.append((ceiling, _one(rows.ceiling, plan, storage)))
    return yardsticks + wanted


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern is the name or some of its parts in a row."""
    if (last := name.rpartition("/")[2]) in ON_REQUEST:
        patterns = [one for one in patterns if one.rpartition("/")[2] == last]
        if not patterns:
            return False
    shapes = [shape for one in patterns for shape in (one, f"{one}/*", f"*/{one}", f"*/{one}/*")]
    return not patterns or any(fnmatchcase(name, shape) for shape in shapes)


def _of_store(plan: Plan, storage: Storage) -> list[tuple[str, Work]]:
    if storage.address:
        return _of_shared(plan, storage)
    found = [
        (f"{storage.label}/{workload}/{n}", _one(rows.row, plan, storage, workload, n)) for workload, n in _WORKLOADS
    ]
    found.append((f"{storage.label}/memory", lambda: ([], scenarios.memory(plan, storage, _OPEN))))
    if storage.label == "memory":
        found.append((f"{storage.label}/sdk", lambda: ([], sdk.clients(plan, storage))))
    else:
        found += [
            (f"{storage.label}/recovery", lambda: ([], _recoveries(plan, storage))),
            (f"{storage.label}/1m", lambda: scenarios.full_store(plan, storage, _FINISHED)),
            (f"{storage.label}/purge", lambda: retention.purge(plan, storage, _FINISHED, _ROUNDS)),
        ]
        if importlib.util.find_spec("grpc"):
            found += _over_grpc(plan, storage)
    return found


def _over_grpc(plan: Plan, storage: Storage) -> list[tuple[str, Work]]:
    from reefknot.bench import grpc_rows  # noqa: PLC0415 - a benchmark without these rows needs no gRPC

    return [
        (f"{storage.label}/grpc/64", _one(grpc_rows.saga, plan, storage)),
        (f"{storage.label}/grpc-idle", lambda: ([], [grpc_rows.idle(plan, storage, _IDLE_ROUNDS)])),
    ]


def _of_shared(plan: Plan, storage: Storage) -> list[tuple[str, Work]]:
    return [
        *(
            (f"{storage.label}/{workload}/{n}", _one(rows.row, plan, storage, workload, n))
            for workload, n in _WORKLOADS_SHARED
        ),
        (f"{storage.label}/claims", lambda: ([], sharing.claims(plan, storage))),
        (f"{storage.label}/nodes", lambda: sharing.nodes(plan, storage)),
        (f"{storage.label}/purge", lambda: retention.purge(plan, storage, _FINISHED, _ROUNDS)),
    ]


def _recoveries(plan: Plan, storage: Storage) -> list[Fact]:
    return [fact for hanging in (0, scenarios.HANGING) for fact in scenarios.recovery(plan, storage, _DUE, hanging)]


def _one(measure: Callable[..., Row], *arguments: object) -> Work:
    """Work that makes one row."""
    return lambda: ([measure(*arguments)], [])
