"""The database file: finding it, holding it alone, opening it, bringing its schema up to date."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import apsw

from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.store.statements import Migration, load_migrations, load_statements

PACKAGE = str(__package__)

#: The writer of a server that was just killed gets 2 s to let go of the lock: 100 tries, 20 ms apart.
_LOCK_TRIES = 100

_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA wal_autocheckpoint = 8000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA temp_store = MEMORY",
)


def parse_url(url: str) -> Path:
    """The absolute path of the database that a store URL names.

    Args:
        url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

    Raises:
        ConfigError: the URL names a host, no file or an option, or the file's directory does not exist.
    """
    # The URL is not quoted: who writes a host may have written a password, too.
    form = "store URL: write sqlite:///relative.db or sqlite:////absolute.db"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(form) from None
    if parts.netloc or parts.fragment or len(parts.path) < 2:
        raise ConfigError(form)
    if parts.query:
        name = parts.query.partition("=")[0]
        raise ConfigError(f"store URL: there is no option {name!r}, nor any other; write ? in the file's name as %3F")
    name = unquote(parts.path[1:])
    if "\0" in name:
        raise ConfigError("store URL: a file's name cannot have a NUL (%00)")
    path = Path(name).resolve()
    if not path.parent.is_dir():
        raise ConfigError(f"the directory {path.parent} does not exist; create it or choose another store URL")
    if path.is_dir():
        raise ConfigError(f"{path} is a directory; the store URL must name a file")
    return path


async def hold_lock(path: Path) -> int:
    """Take the lock that keeps a second server off the same file.

    The lock belongs to the returned descriptor and everything that inherits it: it ends when the
    last of them is closed, also by a kill. A holder that is gone may still have a writer that
    finishes its last batch, so that is waited for.

    Args:
        path: the database file; the lock file stands beside it.

    Returns:
        The descriptor of the lock file.

    Raises:
        ConfigError: another process holds it, or the lock file cannot be written.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {lock_path}: {error.strerror}") from error
    holder = ""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            if _alive(holder):
                break
            await asyncio.sleep(0.02)
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            return lock
    os.close(lock)
    raise ConfigError(f"{path} is in use by process {holder or 'unknown'}; stop that server or choose another file")


def _alive(pid: str) -> bool:
    """Whether there is a process with this id."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


async def prepare(path: Path, now_ms: int, failpoints: Failpoints) -> None:
    """Create the file if it is missing, readable for its owner only, and migrate its schema.

    Args:
        path: the database file.
        now_ms: the time to note beside each migration that is applied.
        failpoints: ``migrate.step``.

    Raises:
        ConfigError: the file is no SQLite database or was written by a newer version.
        StoreUnavailable: the file cannot be written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}") from error
    try:
        connection = await asyncio.to_thread(connect_writer, path)
        try:
            for step in _pending(connection, path):
                if failpoints.armed:
                    await failpoints.hit("migrate.step")
                await asyncio.to_thread(_apply, connection, step, now_ms)
        finally:
            await asyncio.to_thread(connection.close)
    except apsw.NotADBError as error:
        raise ConfigError(f"{path} is not an SQLite database; choose another file") from error
    except apsw.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from error


def pending_names(path: Path) -> tuple[str, ...]:
    """The names of the migrations that this file does not have yet; creates and changes nothing.

    Args:
        path: the database file, which need not exist.

    Raises:
        ConfigError: the file is no SQLite database or was written by a newer version.
        StoreUnavailable: the file cannot be read.
    """
    pending = load_migrations(PACKAGE)
    if path.exists() and path.stat().st_size:
        try:
            connection = connect_reader(path)
            try:
                if connection.execute(load_statements(PACKAGE)["find_schema_version"]).fetchone():
                    pending = _newer(connection, path)
            finally:
                connection.close()
        except apsw.NotADBError as error:
            raise ConfigError(f"{path} is not an SQLite database; choose another file") from error
        except apsw.Error as error:
            raise StoreUnavailable(f"{path}: {error}") from error
    return tuple(f"{step.version:04d}_{step.name}" for step in pending)


def _pending(connection: apsw.Connection, path: Path) -> tuple[Migration, ...]:
    """The migrations that this file does not have yet, after making the table that counts them."""
    connection.execute(load_statements(PACKAGE)["create_schema_version"])
    return _newer(connection, path)


def _newer(connection: apsw.Connection, path: Path) -> tuple[Migration, ...]:
    migrations = load_migrations(PACKAGE)
    current = int(_single(connection, load_statements(PACKAGE)["current_schema_version"]))
    if current > len(migrations):
        raise ConfigError(
            f"{path} has schema version {current}, this program knows {len(migrations)}; start a newer version"
        )
    return migrations[current:]


def _apply(connection: apsw.Connection, step: Migration, now_ms: int) -> None:
    """Apply one migration and note it, both or neither."""
    with connection:
        connection.execute(step.script)
        connection.execute(load_statements(PACKAGE)["add_schema_version"], (step.version, step.name, now_ms))


def connect_writer(path: Path) -> apsw.Connection:
    """The one connection that writes."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=64)
    connection.set_busy_timeout(5_000)
    for pragma in _WRITER_PRAGMAS:
        connection.execute(pragma)
    return connection


def connect_reader(path: Path) -> apsw.Connection:
    """A connection that can only read."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=64)
    connection.set_busy_timeout(5_000)
    connection.execute("PRAGMA cache_size = -16384")
    return connection


def settings(connection: apsw.Connection) -> tuple[str, int]:
    """The journal mode and the synchronous level that are really in force."""
    return str(_single(connection, "PRAGMA journal_mode")), int(_single(connection, "PRAGMA synchronous"))


def _single(connection: apsw.Connection, statement: str) -> Any:
    """The only value of the only row."""
    for row in connection.execute(statement):
        return row[0]
    raise StoreUnavailable(f"no answer to {statement}")
