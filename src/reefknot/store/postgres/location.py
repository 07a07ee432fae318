"""Reads a ``postgres://`` store URL."""

from __future__ import annotations

import ssl
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

#: What ``sslrootcert`` is for the authorities that the machine trusts, and the options that go with it.
_SYSTEM = "system"
_WITH_SYSTEM = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "target_session_attrs", "host"})


class SystemTls(NamedTuple):
    """TLS with a server whose certificate must be of an authority that the machine trusts.

    ``certificate`` and ``key`` are the client's files, empty if it has none; ``password`` is that of the key.
    """

    certificate: str
    key: str
    password: str

    def context(self) -> ssl.SSLContext:
        """What a connection is encrypted with.

        Raises:
            ConfigError: the client's certificate cannot be used.
        """
        context = ssl.create_default_context()
        if self.certificate:
            try:
                context.load_cert_chain(self.certificate, self.key or None, lambda: self.password)
            except ssl.SSLError as error:
                raise ConfigError(f"store URL: sslcert, sslkey: cannot be used together: {error.reason}") from error
        return context


class Location(NamedTuple):
    """Where the database is, and how to use it.

    ``dsn`` goes to the driver and may hold a password; ``address`` is for messages. ``pooler``:
    no state is kept in a connection, as a transaction pooler needs it. ``connections`` serve
    everything but the two lanes of creates and reports; ``max_idle`` of them are kept while nobody
    needs them. A connection that is older than ``lifetime`` is replaced before its next use; 0 is
    never. ``timeout`` is the time for one command and for connecting, ``wait`` the time to wait for
    the server at opening; all three in seconds. ``own_clock``: time is this process's and not the
    database's, for tests that move a clock. ``system_tls`` takes the place of the driver's TLS options.
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
    system_tls: SystemTls | None


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
    system_tls = _system_tls(options)
    check_files(options, [name for name in _FILES if options.get(name) != _SYSTEM or name != "sslrootcert"])
    driver = {name: value for name, value in options.items() if name in _DRIVER_OPTIONS}
    if system_tls is not None:
        driver = {name: value for name, value in driver.items() if not name.startswith("ssl")}
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
        system_tls=system_tls,
    )


def _system_tls(options: Mapping[str, str]) -> SystemTls | None:
    """What ``sslrootcert=system`` asks for; None if it is a file or is not given. The driver does not know it."""
    if options.get("sslrootcert") != _SYSTEM:
        return None
    # As in libpq: anybody can have a certificate of some public authority, so the name must be right.
    if options.get("sslmode", "verify-full") != "verify-full":
        raise ConfigError("store URL: sslrootcert=system needs sslmode=verify-full")
    for name in sorted((options.keys() & _DRIVER_OPTIONS) - _WITH_SYSTEM):
        raise ConfigError(
            f"store URL: {name} has no effect with sslrootcert=system; name a file of authorities instead"
        )
    return SystemTls(options.get("sslcert", ""), options.get("sslkey", ""), options.get("sslpassword", ""))


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
