"""Stores: where transactions live. ``open_store`` finds one by the scheme of its URL."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, metadata
from importlib.resources import files
from pkgutil import iter_modules
from typing import Any, Protocol

from reefknot.clock import Clock
from reefknot.errors import ConfigError
from reefknot.failpoints import Failpoints
from reefknot.store.base import Store
from reefknot.store.statements import load_migrations

#: Modules of this package that serve the stores and are none themselves.
_SHARED = frozenset({"base", "certificates", "groupcommit", "positions", "server_time", "statements", "urls"})

#: Schemes that stand for a module of another name.
_ALIASES = {"rediss": "redis", "postgresql": "postgres", "mariadb": "mysql"}

#: Modules of which the scheme says, after a plus, how to reach the store.
_WITH_VARIANTS = frozenset({"redis"})

#: What people write for a store that is here under another name.
_MEANT = {
    "pg": "postgres",
    "psql": "postgres",
    "tidb": "mysql",
    "percona": "mysql",
    "galera": "mysql",
    "valkey": "redis",
    "keydb": "redis",
    "boltdb": "sqlite",
    "bolt": "sqlite",
    "sqlite3": "sqlite",
}

#: The entry point group in which another distribution offers a store module.
_GROUP = "reefknot.stores"


class _Open(Protocol):
    async def __call__(self, url: str, *, clock: Clock, failpoints: Failpoints) -> Store: ...


def store_names() -> tuple[str, ...]:
    """The URL schemes that ``open_store`` knows, sorted."""
    return tuple(sorted({*_own_modules(), *_plugins()}))


async def open_store(url: str, *, clock: Clock, failpoints: Failpoints) -> Store:
    """Open the store that a URL names; its scheme is the name of a module of this package.

    Args:
        url: for example ``memory://``, ``sqlite:////absolute.db``, ``redis+cluster://host:port``.
            ``postgresql`` and ``mariadb`` mean ``postgres`` and ``mysql``.
        clock: the clock for stores that have none of their own.
        failpoints: named places where a test can interfere.

    Raises:
        ConfigError: there is no such store, or it cannot use the URL.
        StoreUnavailable: the store does not answer.
    """
    opener: _Open = _module_of(url).open
    return await opener(url, clock=clock, failpoints=failpoints)


def check_url(url: str) -> None:
    """See whether a store can use a URL, as far as that can be told without its server.

    A store says it with ``parse_url(url)`` in its module; one that has none takes every URL.

    Raises:
        ConfigError: there is no such store, or it cannot use the URL.
    """
    module = _module_of(url)
    if hasattr(module, "parse_url"):
        module.parse_url(url)


def belongs_to_one_process(url: str) -> bool:
    """Whether a store cannot be opened by several processes at once, as far as its module says so (``ONE_PROCESS``).

    Raises:
        ConfigError: there is no such store.
    """
    return bool(getattr(_module_of(url), "ONE_PROCESS", False))


async def pending_migrations(url: str) -> tuple[str, ...]:
    """The names of the migrations that opening a store would apply; changes nothing.

    A store whose module has no ``pending_migrations(url)`` has no schema.

    Raises:
        ConfigError: there is no such store, or it cannot use the URL.
        StoreUnavailable: the store does not answer.
    """
    module = _module_of(url)
    if not hasattr(module, "pending_migrations"):
        return ()
    names: tuple[str, ...] = await module.pending_migrations(url)
    return names


def migration_sql(url: str) -> str:
    """The SQL of every migration of a store, in order; empty for a store without tables. Asks no server.

    Raises:
        ConfigError: there is no such store, or it cannot use the URL.
    """
    module = _module_of(url)
    if not hasattr(module, "__path__") or not files(module.__name__).joinpath("migrations").is_dir():
        return ""
    fill = getattr(module, "fill_migration", None)
    texts = []
    for step in load_migrations(module.__name__):
        text = fill(step.script, url) if fill else step.script
        texts.append(f"-- {step.version:04d}_{step.name}\n{text.strip()}\n")
    return "\n".join(texts)


def _module_of(url: str) -> Any:
    """The module that the scheme of the URL names."""
    scheme, separator, _ = url.partition("://")
    if not separator or "@" in scheme:  # what stands before an @ is a login, and not shown
        raise ConfigError(f"store URL without a scheme; write one of {_examples()}")
    # What follows a plus says how to reach the store: redis+cluster is a matter of the module redis.
    name, _, variant = scheme.partition("+")
    name = _ALIASES.get(name, name)
    if name in _own_modules():
        if variant and name not in _WITH_VARIANTS:
            raise ConfigError(f"store URL: write {name}:// instead of {scheme}://; no driver can be chosen")
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            # Stores without a server of their own come with ours.
            extra = name if name in (metadata("reefknot").get_all("Provides-Extra") or ()) else "server"
            missing = f"the store {name} needs the package {error.name}"
            raise ConfigError(f"{missing}; pip install 'reefknot[{extra}]'") from error
    if (plugin := _plugins().get(scheme)) is not None:
        return plugin.load()
    raise ConfigError(f"there is no store {scheme!r}; {_suggestion(scheme)}use one of {_examples()}")


def _suggestion(scheme: str) -> str:
    """What may have been meant, as the beginning of a sentence; empty if nothing is near."""
    word = scheme.lower().partition("+")[0]
    known = [*store_names(), *_ALIASES]
    close = get_close_matches(word, known, n=1, cutoff=0.7)
    meant = _MEANT.get(word) or (close[0] if close else "")
    return f"did you mean {meant}://? Otherwise " if meant else ""


def _own_modules() -> frozenset[str]:
    names = {module.name for module in iter_modules(__path__)}
    return frozenset(name for name in names - _SHARED if not name.startswith("_"))


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUP)}


def _examples() -> str:
    return ", ".join(f"{name}://" for name in store_names())
