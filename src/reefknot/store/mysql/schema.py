"""Waits for the database, checks that it can be used, and brings the tables up to date.

MySQL commits every statement that changes a table by itself. So each migration can be repeated from
its beginning, and it counts as applied when its last statement is done.
"""

from __future__ import annotations

import logging
import re

from asyncmy import errors

from reefknot.clock import Clock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.store.mysql.session import Session
from reefknot.store.statements import Migration, load_migrations

PACKAGE = str(__package__)

#: Seconds between two tries to reach a server that does not answer yet.
_PAUSE_SECONDS = 1.0

#: Seconds that a migration may take, and the wait for another node that is applying it.
_MIGRATION_SECONDS = 3_600

#: Errors that say what this user may not do.
_FORBIDDEN = frozenset({1044, 1142, 1227})

#: The first versions with ``FOR UPDATE SKIP LOCKED``.
_OLDEST_SERVERS = {"MariaDB": (10, 6, 0), "MySQL": (8, 0, 1)}

#: Servers that show the number of a MySQL that they resemble; it says nothing about what they can do.
_OTHER_PRODUCTS = ("tidb", "oceanbase")

#: MariaDB may stand behind a number that it shows to old programs.
_SERVER_VERSION = re.compile(r"(?:5\.5\.5-(?=\d))?(\d+)\.(\d+)\.(\d+)")

_OLDEST_PROGRAM = re.compile(r"^-- oldest program: (\d+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)

_log = logging.getLogger(__name__)


async def wait_for_server(session: Session, wait: float, clock: Clock) -> None:
    """Return when the server answers; log while it does not.

    Args:
        session: where to ask.
        wait: give up after so many seconds.
        clock: measures them.

    Raises:
        ConfigError: it answers, but refuses this user, password or database, or is too old.
        StoreUnavailable: it does not answer in time.
    """
    until = clock.monotonic() + wait
    while True:
        try:
            version = await session.check_login()
        except StoreUnavailable as error:
            left = until - clock.monotonic()
            if left <= 0:
                raise
            _log.warning("waiting for MySQL", extra={"reason": str(error), "seconds_left": round(left)})
            await clock.sleep(min(_PAUSE_SECONDS, left))
        else:
            refuse_old_server(version)
            return


def refuse_old_server(version: str) -> None:
    """See whether a server can serve us.

    Args:
        version: as the server shows it, for example ``10.11.6-MariaDB-log``.

    Raises:
        ConfigError: it is too old.
    """
    lower = version.lower()
    number = _SERVER_VERSION.match(version)
    if number is None or any(product in lower for product in _OTHER_PRODUCTS):
        return
    product = "MariaDB" if "mariadb" in lower else "MySQL"
    oldest = _OLDEST_SERVERS[product]
    if tuple(map(int, number.groups())) < oldest:
        needed = ".".join(map(str, oldest))
        raise ConfigError(f"the server has version {version}; {product} {needed} or newer is needed (SKIP LOCKED)")


async def pending(session: Session, sql: dict[str, str]) -> tuple[Migration, ...]:
    """The migrations that the tables do not have yet; changes nothing.

    Raises:
        ConfigError: the tables were changed by a program that this one is too old for.
        StoreUnavailable: the server does not answer.
    """
    return await session.run(lambda used: _pending(used, sql), commits=False)


async def _pending(session: Session, sql: dict[str, str]) -> tuple[Migration, ...]:
    known = load_migrations(PACKAGE)
    if not await session.rows(sql["find_schema_version"]):
        return known
    ((version, oldest_program),) = await session.rows(sql["current_schema_version"])
    if oldest_program > len(known):
        raise ConfigError(
            f"the tables have schema version {version}, this program knows {len(known)}; start a newer version"
        )
    return known[version:]


async def migrate(session: Session, sql: dict[str, str], failpoints: Failpoints) -> None:
    """Apply every migration that is missing; of two nodes the second waits and finds nothing to do.

    Args:
        session: where to run it.
        sql: the named statements.
        failpoints: ``migrate.step``.

    Raises:
        ConfigError: the user may not create tables, or this program is too old.
        StoreUnavailable: the server went away; run it again.
    """
    if not await pending(session, sql):
        return
    try:
        await session.run(lambda used: _migrate(used, sql, failpoints), seconds=2 * _MIGRATION_SECONDS)
    except StoreUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, errors.Error) and cause.args[0] in _FORBIDDEN:
            raise ConfigError(f"{cause.args[-1]}; run `reefknot migrate` as a user who may create tables") from error
        raise


async def _migrate(session: Session, sql: dict[str, str], failpoints: Failpoints) -> None:
    ((locked,),) = await session.rows(sql["lock_migrations"], (_MIGRATION_SECONDS,))
    if locked != 1:
        raise StoreUnavailable("another node has been changing the tables for too long")
    try:
        await session.execute(sql["create_schema_version"])
        for step in await _pending(session, sql):
            if failpoints.armed:
                await failpoints.hit("migrate.step")
            for statement in _COMMENT.sub("", step.script).split(";"):
                if statement.strip():
                    await session.execute(statement)
            oldest = _OLDEST_PROGRAM.search(step.script)
            oldest_program = int(oldest[1]) if oldest else step.version
            await session.execute(sql["add_schema_version"], (step.version, step.name, oldest_program))
            await session.execute("COMMIT")
            _log.info("migration applied", extra={"step": f"{step.version:04d}_{step.name}"})
    finally:
        await session.rows(sql["unlock_migrations"])
