"""Reads a ``postgres://`` store URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from reefknot.errors import ConfigError
from reefknot.store.certificates import check_files
from reefknot.store.urls import ESCAPES, options_of, split_url

#: Options that libpq knows too; the driver reads them from the URL.
_DRIVER_OPTIONS = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "host"),
    }
)
_OWN_OPTIONS = (
    *("schema", "pooler", "connections", "max_connections", "max_idle", "lifetime", "timeout", "wait", "clock"),
)

#: Connections of a node that belong to the lanes of creates and reports.
_LANES = 2
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_LONGEST_IDENTIFIER = 63


class Location(NamedTuple):
    """Where the database is, and how to use it.

    ``dsn`` goes to the driver and may hold a password; ``address`` is for messages. ``pooler``:
    no state is kept in a connection, as a transaction pooler needs it. ``connections`` serve
    everything but the two lanes of creates and reports; ``max_idle`` of them are kept while nobody
    needs them. A connection that is older than ``lifetime`` is replaced before its next use; 0 is
    never. ``timeout`` is the time for one command and for connecting, ``wait`` the time to wait for
    the server at opening; all three in seconds. ``own_clock``: time is this process's and not the
    database's, for tests that move a clock.
    """

    dsn: str
    address: str
    schema: str
    pooler: bool
    connections: int
    timeout: float
    wait: float
    own_clock: bool
    max_idle: int
    lifetime: float


def parse_url(url: str) -> Location:
    """What a store URL names.

    Args:
        url: ``postgres://user:password@host:port/database?option=value&…``.

    Raises:
        ConfigError: a part is missing, or an option is unknown or has no possible value. The
            message never holds the password.
    """
    parts = split_url(url)
    database = unquote(parts.path[1:])
    if not database or "/" in database:
        raise ConfigError(f"store URL: write postgres://user:password@host:port/database; {ESCAPES}")
    options = options_of(parts.query, (*_OWN_OPTIONS, *sorted(_DRIVER_OPTIONS)))
    check_files(options, _FILES)
    driver = {name: value for name, value in options.items() if name in _DRIVER_OPTIONS}
    schema = options.get("schema") or "public"
    if len(schema.encode()) > _LONGEST_IDENTIFIER or "\0" in schema:
        raise ConfigError(f"store URL: schema must be a name of at most {_LONGEST_IDENTIFIER} bytes")
    most = _number(options, "max_connections", 500, lowest=_LANES + 1, highest=10_000, key="Store.MaxOpenConns")
    return Location(
        dsn=f"postgresql://{parts.netloc}/{quote(database, safe='')}?{urlencode(driver)}",
        address=f"{_servers(options.get('host') or parts.netloc.rpartition('@')[2] or 'localhost')}/{database}",
        schema=schema,
        pooler=_choice(options, "pooler", {"0": False, "1": True}),
        connections=int(min(_number(options, "connections", 8, lowest=1, highest=1_000), most - _LANES)),
        timeout=_number(options, "timeout", 5.0, lowest=0.05, highest=3_600),
        wait=_number(options, "wait", 30.0, lowest=0, highest=86_400),
        own_clock=_choice(options, "clock", {"database": False, "process": True}),
        max_idle=int(_number(options, "max_idle", 500, lowest=0, highest=10_000)),
        lifetime=_number(options, "lifetime", 300, lowest=0, highest=31_536_000),
    )


def _servers(hosts: str) -> str:
    """The servers with their ports, for messages; several are separated by commas."""
    try:
        ports = [urlsplit(f"//{host}").port for host in hosts.split(",")]
    except ValueError:
        ports = [0]
    if 0 in ports:
        raise ConfigError(f"store URL: the port must be a number between 1 and 65535; {ESCAPES}")
    return hosts if len(ports) > 1 or ports[0] else f"{hosts}:5432"


def _choice(options: Mapping[str, str], name: str, choices: dict[str, bool]) -> bool:
    """The value that a word stands for; the first choice is the default."""
    word = options.get(name, next(iter(choices)))
    if word not in choices:
        raise ConfigError(f"store URL: {name} must be {' or '.join(choices)}, not {word!r}")
    return choices[word]


def _number(
    options: Mapping[str, str], name: str, default: float, *, lowest: float, highest: float, key: str = ""
) -> float:
    """An option that is a number; ``key`` is the setting that may have set it."""
    text = options.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = lowest - 1
    if not lowest <= value <= highest:
        known_as = f"{name} ({key})" if key else name
        raise ConfigError(f"store URL: {known_as} must be a number from {lowest:g} to {highest:g}, not {text!r}")
    return value
