"""The kinds of registries, one module each: ``open_registry`` finds the class ``registry`` of a module by its name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from reefknot.callers.resolve.base import Access, Registry


def registry_kinds() -> tuple[str, ...]:
    """The names of all kinds, sorted."""
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__)))


def open_registry(kind: str, hosts: tuple[str, ...], access: Access, make_id: Callable[[], str]) -> Registry:
    """Make the client of a registry; nothing is sent.

    Args:
        kind: one of ``registry_kinds()``.
        hosts: its servers, ``host`` or ``host:port`` each.
        access: how it lets us in.
        make_id: makes an id that no other instance of a service has.
    """
    registry: Registry = importlib.import_module(f"{__name__}.{kind}").registry(hosts, access, make_id)
    return registry
