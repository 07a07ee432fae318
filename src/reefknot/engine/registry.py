"""Finds the modes: every module in ``engine/modes`` that has a ``mode``."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from reefknot.engine import modes
from reefknot.engine.mode import Mode


def discover() -> Mapping[str, Mode]:
    """All modes by name. A name that arrives from the network is only looked up in the result."""
    found: dict[str, Mode] = {}
    for module in pkgutil.iter_modules(modes.__path__):
        mode: Mode = import_module(f"{modes.__name__}.{module.name}").mode
        if mode.name != module.name:
            raise AssertionError(f"mode {mode.name!r} must live in modes/{mode.name}.py")
        found[mode.name] = mode
    return MappingProxyType(found)
