"""What a Redis URL says: servers, login, database and the store's own options."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from reefknot.errors import ConfigError
from reefknot.store.certificates import check_files
from reefknot.store.urls import ESCAPES, options_of

_FORM = (
    "write redis://[user:password@]host[:port][/db][?prefix=reefknot], rediss://… for TLS, "
    "redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/name[/db]"
)
_KINDS: dict[str, tuple[Literal["single", "cluster", "sentinel"], bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
}
_FILES = ("tls-ca", "tls-cert", "tls-key")
_OPTIONS = ("allow-eviction", "buckets", "clock", "prefix", "timeout", "wait", *_FILES)
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/]+)(?::(\d{1,5}))?")

#: More buckets than this would make ids larger than what JSON readers keep exact.
MAX_BUCKETS = 256


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed URL. ``seeds`` are the servers named in it; ``buckets`` is 0 if it does not say.

    ``timeout_seconds`` is how long a server may owe an answer before it is taken for dead,
    ``wait_seconds`` how long opening waits for a server. ``own_clock``: time is this process's and
    not the server's, for tests that move a clock.
    """

    kind: Literal["single", "cluster", "sentinel"]
    seeds: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = ""
    database: int = 0
    master_name: str = ""
    prefix: str = "reefknot"
    buckets: int = 0
    timeout_seconds: float = 5.0
    wait_seconds: float = 30.0
    allow_eviction: bool = False
    own_clock: bool = False
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    def __repr__(self) -> str:
        """Without the password."""
        return f"Address({self.kind}, {self.seeds}, prefix={self.prefix!r})"

    def tls_context(self) -> ssl.SSLContext | None:
        """How to check servers, or ``None`` for plain connections.

        Raises:
            ConfigError: a certificate file cannot be used.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca or None)
            if self.tls_cert:
                context.load_cert_chain(self.tls_cert, self.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"store URL: the TLS files cannot be used: {error}") from error
        return context


def parse_url(url: str) -> Address:
    """Read a URL. Errors never show it, as it may hold a password.

    Raises:
        ConfigError: it is not of one of the known forms.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _KINDS:
        raise ConfigError(f"store URL: there is no scheme {scheme!r}; {_FORM}")
    kind, tls = _KINDS[scheme]
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, _, servers = authority.rpartition("@")
    # Other programs end a URL at these; a URL that means two things is shown wrongly somewhere.
    if re.search(r"[#\s]", login):
        raise ConfigError("store URL: there is a # or a space in the login; write # as %23 and a space as %20")
    user, _, password = login.partition(":")
    seeds = _seeds(servers, 26379 if kind == "sentinel" else 6379)
    if kind == "single" and len(seeds) > 1:
        kind = "cluster"  # DTM's way to name one: several servers in Store.Host
    parts = [unquote(part) for part in path.split("/") if part]
    master_name = parts.pop(0) if kind == "sentinel" and parts else ""
    if kind == "sentinel" and not master_name:
        raise ConfigError(f"store URL: the name of the master is missing; {_FORM}")
    database = parts.pop(0) if parts else "0"
    if parts or not (database.isascii() and database.isdecimal() and len(database) < 10):
        raise ConfigError(f"store URL: the path must be a database number; {_FORM}; {ESCAPES}")
    if kind == "cluster" and int(database):
        raise ConfigError("store URL: a Redis cluster has only database 0")
    return Address(
        kind=kind,
        seeds=seeds,
        user=unquote(user),
        password=unquote(password),
        database=int(database),
        master_name=master_name,
        tls=tls,
        **_options(query, tls=tls),
    )


def _seeds(servers: str, default_port: int) -> tuple[tuple[str, int], ...]:
    seeds = []
    for server in servers.split(","):
        match = _HOST.fullmatch(server.strip())
        port = int(match[2] or default_port) if match else 0
        if match is None or not 0 < port < 65536:
            raise ConfigError(f"store URL: the servers must be host:port, separated by commas; {_FORM}; {ESCAPES}")
        seeds.append((match[1].strip("[]"), port))
    return tuple(seeds)


def _options(query: str, *, tls: bool) -> dict[str, Any]:
    given = options_of(query, _OPTIONS)
    buckets = given.get("buckets", "0")
    if not (buckets.isascii() and buckets.isdecimal() and len(buckets) < 4 and int(buckets) <= MAX_BUCKETS):
        raise ConfigError(f"store URL: buckets must be a number from 1 to {MAX_BUCKETS}")
    timeout = _seconds(given, "timeout", "5")
    if not timeout:
        raise ConfigError("store URL: timeout must be more than 0")
    files = {name: path for name in _FILES if (path := given.get(name, ""))}
    if files and not tls:
        raise ConfigError(f"store URL: {next(iter(files))} needs an encrypted connection; write rediss for redis")
    if "tls-key" in files and "tls-cert" not in files:
        raise ConfigError("store URL: tls-key is the key of a certificate; add tls-cert")
    check_files(files, _FILES)
    return {
        "prefix": _prefix(given.get("prefix", "reefknot")),
        "buckets": int(buckets),
        "timeout_seconds": timeout,
        "wait_seconds": _seconds(given, "wait", "30"),
        "allow_eviction": _choice(given, "allow-eviction", ("0", "1")) == "1",
        "own_clock": _choice(given, "clock", ("database", "process")) == "process",
        **{name.replace("-", "_"): path for name, path in files.items()},
    }


def _prefix(text: str) -> str:
    """The beginning of all keys.

    The first pair of braces in a key chooses its slot. DTM's default ``{a}`` pins everything to one;
    here the bucket chooses the slot, so braces are left out.
    """
    prefix = text.replace("{", "").replace("}", "")
    if not prefix:
        raise ConfigError("store URL: prefix must have a character that is no brace")
    return prefix


def _seconds(given: Mapping[str, str], name: str, default: str) -> float:
    text = given.get(name, default)
    if not re.fullmatch(r"\d{1,5}(\.\d{1,3})?", text):
        raise ConfigError(f"store URL: {name} must be a number of seconds, for example 2.5")
    return float(text)


def _choice(given: Mapping[str, str], name: str, values: tuple[str, str]) -> str:
    """The value of an option that has two; the first if it is not given."""
    value = given.get(name, values[0])
    if value not in values:
        raise ConfigError(f"store URL: {name} must be {values[0]} or {values[1]}")
    return value
