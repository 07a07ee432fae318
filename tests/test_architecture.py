"""The shape of the code, checked like any other behaviour."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import reefknot
from reefknot.config import all_keys
from reefknot.engine import modes
from reefknot.failpoints import NAMES

ROOT = Path(__file__).parents[1]
SRC = Path(reefknot.__file__).parent
FILES = sorted(SRC.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
MODES = frozenset(path.stem for path in Path(modes.__file__).parent.glob("*.py")) - {"__init__"}

MODULE_LINES = 400
FUNCTION_LINES = 70
VAGUE_NAMES = {"common", "helper", "helpers", "imp", "manager", "misc", "util", "utils"}

# Where the rules of transactions and of the wire stand: no waiting, no clock, no chance, no I/O.
PURE = [
    path
    for path in FILES
    if {"engine", "wire"} & set(path.relative_to(SRC).parts) or path.name in {"model.py", "errors.py"}
]
IMPURE_MODULES = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "threading", "time", "uuid"}

# The processes' entrances and what stands outside the server may read the environment and the time.
ENTRANCES = {"app.py", "workers.py", "bench", "cli", "clock.py", "demo", "environment.py", "testing"}
ENVIRONMENT = {("os", "environ"), ("os", "getenv")}
CLOCKS = {("time", name) for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep")}
CLOCKS |= {("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}

CONTAINERS = {"Counter", "OrderedDict", "bytearray", "defaultdict", "deque", "dict", "list", "set"}
STATEFUL = CONTAINERS | {"Condition", "ContextVar", "Event", "Lock", "Queue", "Semaphore", "count", "local"}
CHANGES = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}


def each(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", files, ids=[str(path.relative_to(SRC)) for path in files])


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def attributes(tree: ast.AST) -> set[tuple[str, str]]:
    """Every ``name.attribute`` in the tree."""
    return {
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that the tree imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@each(FILES)
def test_module_fits_in_the_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@each(FILES)
def test_function_fits_on_a_screen(path):
    long = {
        f.name: f.end_lineno - f.lineno + 1 for f in functions(TREES[path]) if f.end_lineno - f.lineno >= FUNCTION_LINES
    }
    assert long == {}


def test_names_say_something():
    # In compat the names are those of the libraries that are replaced.
    own = [path for path in FILES if path.relative_to(SRC).parts[0] != "compat"]
    assert [path for path in own if VAGUE_NAMES & {path.stem, *path.relative_to(SRC).parts}] == []


def test_the_pure_part_is_there():
    assert {"saga.py", "mode.py", "names.py", "model.py"} <= {path.name for path in PURE}


@each(PURE)
def test_rules_are_pure(path):
    tree = TREES[path]
    waiting = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFunctionDef)]
    assert waiting == []
    assert imported(tree) & IMPURE_MODULES == set()
    assert attributes(tree) & CLOCKS == set()


@each([path for path in FILES if not {"modes", "testing", "demo", "bench"} & set(path.relative_to(SRC).parts)])
def test_no_module_asks_for_a_mode_by_name(path):
    asked = [
        node.lineno
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Compare | ast.MatchValue)
        and {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)}
        & MODES
    ]
    assert asked == []


def test_a_mode_is_named_as_its_file():
    from reefknot.engine.registry import discover

    found = discover()
    assert set(found) == MODES
    assert {name: mode.name for name, mode in found.items()} == {name: name for name in MODES}


@each([path for path in FILES if not ENTRANCES & set(path.relative_to(SRC).parts)])
def test_time_and_environment_are_handed_in(path):
    tree = TREES[path]
    assert attributes(tree) & (CLOCKS | ENVIRONMENT) == set()
    names = {
        (node.module, alias.name) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert names & (CLOCKS | ENVIRONMENT) == set()


def module_values(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names that a module binds at its top, with what they are bound to."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def called(value: ast.expr) -> str:
    """The last part of the name of what is called; empty for anything but a call."""
    if not isinstance(value, ast.Call):
        return ""
    return value.func.id if isinstance(value.func, ast.Name) else getattr(value.func, "attr", "")


def changed_names(tree: ast.AST) -> set[str]:
    """Names whose content the tree changes: ``x[…] =``, ``del x[…]``, ``x.append(…)``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            names |= {node.value.id} if isinstance(node.value, ast.Name) else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            names |= {node.func.value.id} if isinstance(node.func.value, ast.Name) else set()
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@each(FILES)
def test_modules_keep_no_state(path):
    """A table at the top of a module is a constant: named like one and changed by nobody."""
    tree = TREES[path]
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global)] == []
    containers = {
        name: value
        for name, value in module_values(tree)
        if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)
        or called(value) in STATEFUL
    }
    containers.pop("__all__", None)
    assert {name for name, value in containers.items() if called(value) in STATEFUL} == set()
    assert {name for name in containers if not name.isupper()} == set()
    assert set(containers) & changed_names(tree) == set()


def test_every_setting_is_documented():
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    missing = [key.name for key in all_keys() if f"`{key.name}`" not in page or f"`{key.variables[-1]}`" not in page]
    assert missing == []


def test_every_failpoint_is_hit_somewhere():
    texts = {
        leaf.value
        for path, tree in TREES.items()
        if path.name != "failpoints.py"
        for leaf in ast.walk(tree)
        if isinstance(leaf, ast.Constant)
    }
    assert NAMES - texts == set()
