"""What a URL like ``mysql://user:password@host:3306/database?ssl=verify`` says."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from reefknot.errors import ConfigError
from reefknot.store.certificates import check_files
from reefknot.store.urls import options_of, port_of, split_url

_OPTIONS = (
    *("ssl", "ssl_ca", "ssl_cert", "ssl_key", "timeout", "wait"),
    *("connections", "max_connections", "max_idle", "lifetime", "clock"),
)
_FILES = ("ssl_ca", "ssl_cert", "ssl_key")
#: Connections of a node that belong to the lanes of creates, reports and decisions.
LANES = 3

_SSL_MODES = ("off", "require", "verify-ca", "verify")


class Location(NamedTuple):
    """Where the database is and how to talk to it.

    ``timeout`` is the time for one transaction and for connecting, ``wait`` the time to wait for the
    server at opening. ``connections`` serve everything but the lanes; ``max_idle`` of them are kept
    while nobody needs them. A connection that is older than ``lifetime`` is replaced before its next
    use; 0 is never. All times are in seconds. ``own_clock``: time is this process's and not the
    database's, for tests that move a clock.
    """

    host: str
    port: int
    user: str
    password: str
    database: str
    ssl: ssl.SSLContext | None
    timeout: float
    wait: float
    connections: int
    own_clock: bool
    max_idle: int
    lifetime: float

    @property
    def name(self) -> str:
        """The database for messages, without the login."""
        return f"{self.host}:{self.port}/{self.database}"


def parse_url(url: str) -> Location:
    """Read a store URL.

    Raises:
        ConfigError: a part is missing or wrong, or an option is unknown. The message never holds
            the password.
    """
    parts = split_url(url)
    port = port_of(parts, 3306)
    database = unquote(parts.path.removeprefix("/"))
    if not parts.hostname or not parts.username or not database or "/" in database:
        raise ConfigError("store URL mysql://…: write mysql://user:password@host:3306/database")
    options = options_of(parts.query, _OPTIONS)
    if (time := options.get("clock", "database")) not in ("database", "process"):
        raise ConfigError("store URL mysql://…: clock must be database or process")
    most = _number(options, "max_connections", 500, LANES + 2, 10_000, key="Store.MaxOpenConns")
    return Location(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        database=database,
        ssl=_ssl_context(options),
        timeout=_number(options, "timeout", 5.0, 0.1),
        wait=_number(options, "wait", 30.0, 0.0),
        connections=int(min(_number(options, "connections", 8, 2), most - LANES)),
        own_clock=time == "process",
        max_idle=int(_number(options, "max_idle", 500, 0, 10_000)),
        lifetime=_number(options, "lifetime", 300, 0, 31_536_000),
    )


def _number(
    options: Mapping[str, str], name: str, default: float, least: float, most: float = 3_600, *, key: str = ""
) -> float:
    """An option that is a number; ``key`` is the setting that may have set it."""
    known_as = f"{name} ({key})" if key else name
    try:
        value = float(options.get(name, default))
    except ValueError as error:
        raise ConfigError(f"store URL mysql://…: {known_as} must be a number, not {options[name]!r}") from error
    if not least <= value <= most:
        raise ConfigError(f"store URL mysql://…: {known_as} must be between {least:g} and {most:g}")
    return value


def _ssl_context(options: Mapping[str, str]) -> ssl.SSLContext | None:
    """The TLS settings: ``off``, ``require`` (no check), ``verify-ca`` (the authority), ``verify`` (host too)."""
    mode = options.get("ssl", "verify" if "ssl_ca" in options else "off")
    if mode not in _SSL_MODES:
        raise ConfigError(f"store URL mysql://…: ssl is one of {', '.join(_SSL_MODES)}, not {mode!r}")
    if "ssl_key" in options and "ssl_cert" not in options:
        raise ConfigError("store URL mysql://…: ssl_key is the key of a certificate; add ssl_cert")
    if "ssl_cert" in options and "ssl" not in options and "ssl_ca" not in options:
        raise ConfigError("store URL mysql://…: ssl_cert without ssl would not encrypt; add ssl=verify")
    if mode == "off":
        return None
    check_files(options, _FILES)
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca"))
        if certificate := options.get("ssl_cert"):
            context.load_cert_chain(certificate, options.get("ssl_key"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"store URL mysql://…: the TLS files cannot be used: {error}") from error
    context.check_hostname = mode == "verify"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context
