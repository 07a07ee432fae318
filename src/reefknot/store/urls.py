"""What the URLs of stores on a server have in common. No error quotes a part that may belong to a password."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit

from reefknot.errors import ConfigError

ESCAPES = "in a user or password write / ? # @ : [ ] % as %2F %3F %23 %40 %3A %5B %5D %25"

#: What an option may be called; anything else may be the end of a password with a ? in it.
_OPTION = re.compile(r"[a-z_-]{1,30}", re.IGNORECASE)


def split_url(url: str) -> SplitResult:
    """The parts of a store URL that names a server.

    Raises:
        ConfigError: it cannot be taken apart, or a character of the login ends it too early.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket, or a character that Unicode takes for one of / ? # @ :
        raise ConfigError(f"store URL: the server cannot be read; {ESCAPES}") from None
    # An @ in the path may be the one that was meant to end the login.
    if parts.fragment or "@" in parts.path:
        raise ConfigError(f"store URL: it has a # or an @ behind the server; {ESCAPES}")
    return parts


def port_of(parts: SplitResult, default: int) -> int:
    """The port of a URL with one server.

    Raises:
        ConfigError: it is no port.
    """
    try:
        port = default if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ConfigError(f"store URL: the port must be a number between 1 and 65535; {ESCAPES}")
    return port


def options_of(query: str, known: Iterable[str]) -> Mapping[str, str]:
    """The options of a URL.

    Raises:
        ConfigError: there is no such option, or one is given twice.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    known = tuple(known)
    for name in sorted(given.keys() - set(known)):
        shown = f"unknown option {name!r}" if _OPTION.fullmatch(name) else f"unknown option ({ESCAPES})"
        raise ConfigError(f"store URL: {shown}; there are {', '.join(known)}")
    if len(pairs) > len(given):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ConfigError(f"store URL: the option {name} is given more than once; leave one of them")
    return given
