"""Finds the driver of a connection by the connection's own type; nothing that is not in use is imported.

A library is one entry here and one module beside this file, with ``driver(connection)`` and
``async_driver(connection)``; each returns None for what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from reefknot.barrier.drivers.base import AsyncDriver, Driver
from reefknot.errors import Invalid

#: The module of each library, by the package that defines its connections.
LIBRARIES: Mapping[str, str] = {
    "sqlite3": "sqlite",
    "aiosqlite": "sqlite",
    "psycopg": "psycopg",
    "asyncpg": "asyncpg",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "mysql": "mysql",
    "aiomysql": "mysql",
    "asyncmy": "mysql",
    "sqlalchemy": "sqlalchemy",
    "django": "django",
    "pymongo": "mongo",
}


def library_of(connection: object) -> str:
    """The package that defines the connection's class or one of its bases; empty if it is not known here."""
    # A tracer's proxy has a type of its own, and the class of what it stands for.
    packages = (base.__module__.partition(".")[0] for base in connection.__class__.__mro__)
    return next((package for package in packages if package in LIBRARIES), "")


def driver_of(connection: Any) -> Driver:
    """The driver of a sync connection.

    Args:
        connection: of one of the libraries in ``LIBRARIES``.

    Raises:
        Invalid: no driver knows it, or it is async.
    """
    module = _module(connection)
    found: Driver | None = module.driver(connection)
    if found is None:
        raise _unknown(connection, "use AsyncBarrier" if module.async_driver(connection) else "pass the connection")
    return found


def async_driver_of(connection: Any) -> AsyncDriver:
    """The driver of an async connection.

    Args:
        connection: of one of the libraries in ``LIBRARIES``.

    Raises:
        Invalid: no driver knows it, or it is sync.
    """
    module = _module(connection)
    found: AsyncDriver | None = module.async_driver(connection)
    if found is None:
        raise _unknown(connection, "use Barrier" if module.driver(connection) else "pass the connection")
    return found


def _module(connection: object) -> ModuleType:
    library = library_of(connection)
    if not library:
        known = ", ".join(LIBRARIES)
        raise _unknown(connection, f"pass a connection or session of {known}; for Redis call redis_adjust or script")
    return import_module(f"reefknot.barrier.drivers.{LIBRARIES[library]}")


def _unknown(connection: object, fix: str) -> Invalid:
    kind = type(connection)
    return Invalid("connection", f"is a {kind.__module__}.{kind.__qualname__}, which the barrier does not take", fix)
