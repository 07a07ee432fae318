"""Waits for the database, checks that it can be used, and brings the tables up to date."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

import asyncpg

from reefknot.clock import Clock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.store.certificates import refused_certificate
from reefknot.store.postgres.connections import Connections
from reefknot.store.statements import Migration, load_migrations, load_statements

PACKAGE = str(__package__)

#: Seconds between two tries to reach a server that does not answer yet.
_PAUSE_SECONDS = 1.0

#: Seconds that a migration may take; an index on a large table takes long.
_MIGRATION_SECONDS = 3_600.0

_OLDEST_SERVER = 120_000

#: The time of a statement: the database's, or $1 where a test moves the clock.
_CLOCK = (
    "WITH clock AS MATERIALIZED (SELECT COALESCE($1::bigint, "
    "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now_ms)"
)
_OLDEST_PROGRAM = re.compile(r"^-- oldest program: (\d+)$", re.MULTILINE)

#: Errors of a connect that waiting does not mend.
_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,  # also a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
    ValueError,
)

_log = logging.getLogger(__name__)


class _Version(NamedTuple):
    """What the tables are: migrations applied, and how many a program must know to use them."""

    version: int
    oldest_program: int


def quoted(name: str) -> str:
    """An SQL identifier for any name."""
    return '"' + name.replace('"', '""') + '"'


def statements_of(schema: str) -> dict[str, str]:
    """The named statements for the tables in a schema."""
    return {name: filled(text, schema) for name, text in load_statements(PACKAGE).items()}


def filled(text: str, schema: str) -> str:
    """A statement with the clock and the schema put in."""
    return text.replace("{clock}", _CLOCK).replace("{schema}", quoted(schema))


#: The driver looks for the authority's certificate in the home directory, and a service often has none.
_ROOT_FIX = "add sslrootcert=/path/of/the-authority.pem to the store URL, or sslrootcert=system for a public authority"


async def wait_for_server(connections: Connections, address: str, wait: float, clock: Clock) -> None:
    """Return when the server takes a command; log while it does not.

    Args:
        connections: where to ask.
        address: for messages.
        wait: give up after so many seconds.
        clock: measures them.

    Raises:
        ConfigError: it answers, but refuses this user, password or database, or cannot serve us.
        StoreUnavailable: it does not answer in time.
    """
    until = clock.monotonic() + wait
    query = load_statements(PACKAGE)["server_settings"]
    while True:
        try:
            ((encoding, version),) = await connections.fetch(query)
            break
        except StoreUnavailable as error:
            if certificate := refused_certificate(error):
                raise ConfigError(f"PostgreSQL {address}: {certificate}; check sslmode and sslrootcert") from error
            if isinstance(error.__cause__, _REFUSALS):
                fix = _ROOT_FIX if "root certificate file" in str(error) else "check the store URL"
                raise ConfigError(f"PostgreSQL refuses: {error}; {fix}") from error
            left = until - clock.monotonic()
            if left <= 0:
                raise
            _log.warning("waiting for PostgreSQL", extra={"reason": str(error), "seconds_left": round(left)})
            await clock.sleep(min(_PAUSE_SECONDS, left))
    if encoding != "UTF8":
        raise ConfigError(f"database {address} has the encoding {encoding}; create one with ENCODING 'UTF8'")
    if version < _OLDEST_SERVER:
        raise ConfigError(f"PostgreSQL at {address} is older than 12; use a newer server")


async def pending(connections: Connections, schema: str) -> tuple[Migration, ...]:
    """The migrations that the tables do not have yet; changes nothing.

    Raises:
        ConfigError: the user has no right to the tables, or they were changed by a program that this one is
            too old for.
        StoreUnavailable: the server does not answer.
    """
    names = statements_of(schema)
    ((exists,),) = await connections.fetch(names["schema_version_exists"], schema)
    if not exists:
        return load_migrations(PACKAGE)
    try:
        ((version, oldest_program),) = await connections.fetch(names["current_schema_version"])
    except StoreUnavailable as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            rights = "USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on its tables"
            raise ConfigError(f"schema {schema}: {error.__cause__}; give the store's user {rights}") from error
        raise
    return _newer(_Version(version, oldest_program), schema)


def _newer(found: _Version, schema: str) -> tuple[Migration, ...]:
    known = load_migrations(PACKAGE)
    if found.oldest_program > len(known):
        raise ConfigError(
            f"schema {schema} has version {found.version}, this program knows {len(known)}; start a newer version"
        )
    return known[found.version :]


async def migrate(connections: Connections, schema: str, failpoints: Failpoints) -> None:
    """Apply every migration that is missing, all in one transaction; of two nodes the second waits.

    Args:
        connections: where to run it.
        schema: the schema of the tables; it is created if it is missing.
        failpoints: ``migrate.step``.

    Raises:
        ConfigError: the user may not create tables, or this program is too old.
        StoreUnavailable: the server went away; nothing has changed.
    """
    if not await pending(connections, schema):
        return
    names = statements_of(schema)

    async def work(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await connection.execute(names["lock_migrations"], schema)
            if not await connection.fetchval(names["schema_exists"], schema):
                await connection.execute(names["create_schema"])
            if not await connection.fetchval(names["schema_version_exists"], schema):
                await connection.execute(names["create_schema_version"])
            row = await connection.fetchrow(names["current_schema_version"])
            for step in _newer(_Version(*row), schema):
                if failpoints.armed:
                    await failpoints.hit("migrate.step")
                await connection.execute(filled(step.script, schema))
                oldest = _OLDEST_PROGRAM.search(step.script)
                oldest_program = int(oldest[1]) if oldest else step.version
                await connection.execute(names["add_schema_version"], step.version, step.name, oldest_program)
                _log.info("migration applied", extra={"schema": schema, "step": f"{step.version:04d}_{step.name}"})

    try:
        await connections.run(work, _MIGRATION_SECONDS)
    except StoreUnavailable as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise ConfigError(f"schema {schema}: {error.__cause__}; run `reefknot migrate` as the owner") from error
        raise
