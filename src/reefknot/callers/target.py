"""Branch URLs: read once, checked, and turned into the parts that a request needs."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import parse_qs, quote, quote_plus

from reefknot.callers.base import BranchCall
from reefknot.callers.pool import Address

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_NEEDS_NO_QUOTING = re.compile(r"[A-Za-z0-9_.~-]*")

#: Everything that may stand in a path or query as it is, ``%`` included: what is escaped stays escaped.
_KEPT = "!$%&'()*+,/:;=?@[]~"
_KEPT_IN_QUERY = _KEPT + '"<>\\^`{|}'

_DEFAULT_PORTS = {"http": 80, "https": 443}
_CACHED_TARGETS = 2048
LOCAL_HOSTS = ("localhost", "127.0.0.1")


class Target(NamedTuple):
    """A branch URL in parts.

    ``host_header`` is what the Host header says. ``path`` has the query of the URL at its end and
    is ready for a request line. ``method`` is the value of the query parameter of that name.
    ``problem`` says why the URL cannot be called; the other fields mean nothing then.
    """

    address: Address = ("", 0)
    secure: bool = False
    host_header: str = ""
    path: str = ""
    method: str = ""
    problem: str = ""

    def with_query(self, query: str) -> str:
        """The path with ``query`` behind the query that the URL has."""
        return f"{self.path}&{query}" if "?" in self.path else f"{self.path}?{query}"


class Targets:
    """Reads URLs and remembers the last ones that were seen.

    Args:
        local_host: the host to call where a URL says ``localhost`` or ``127.0.0.1``: inside a container
            those are the container itself. Empty leaves them.
    """

    def __init__(self, local_host: str = "") -> None:
        self._known: dict[str, Target] = {}
        self._local_host = local_host

    def get(self, url: str) -> Target:
        """Read a URL; never raises."""
        target = self._known.get(url)
        if target is None:
            target = read_target(url)
            if self._local_host and target.address[0] in LOCAL_HOSTS:
                target = target._replace(
                    address=(self._local_host, target.address[1]),
                    host_header=target.host_header.replace(target.address[0], self._local_host, 1),
                )
            if len(self._known) >= _CACHED_TARGETS:
                del self._known[next(iter(self._known))]
            self._known[url] = target
        return target


def is_jsonrpc(protocol: str, url: str) -> bool:
    """Whether a branch is called over JSON-RPC: DTM's rule, by the text of the URL."""
    return protocol == "json-rpc" and url.startswith(("http://", "https://")) and "method" in url


def names_service(url: str) -> bool:
    """Whether a URL names a service that has to be found first, like ``etcd:///bank/TransOut``."""
    return "://" in url and not url.lower().startswith(("http://", "https://"))


def read_target(url: str) -> Target:
    """Read an ``http`` or ``https`` URL.

    Percent escapes stay as they are; a space, and in the path everything else that no URL may
    contain, is escaped. The fragment is dropped.
    """
    match = _URL.match(url)
    if match is None:
        return Target(problem="it is not a URL of the form http://host/path")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        return Target(problem=f"the scheme {scheme}:// cannot be called over HTTP")
    if _CONTROL.search(url):
        return Target(problem="it contains a control character")
    authority = match["authority"]
    if "@" in authority:
        return Target(problem="it contains a user name or password; send them in a branch header")
    host, shown, port, problem = read_authority(authority, _DEFAULT_PORTS[scheme])
    if problem:
        return Target(problem=problem)
    query = match["query"] or ""
    try:
        path = quote(match["path"] or "/", safe=_KEPT) + quote(query, safe=_KEPT_IN_QUERY)
        method = parse_qs(query[1:]).get("method", [""])[0]
    except ValueError:  # half a surrogate pair, or a query with absurdly many fields
        return Target(problem="its query cannot be read")
    return Target(
        address=(host, port),
        secure=scheme == "https",
        host_header=shown if port == _DEFAULT_PORTS[scheme] else f"{shown}:{port}",
        path=path,
        method=method,
    )


def branch_query(call: BranchCall) -> str:
    """The query parameters that tell a branch which operation is meant, escaped as Go does it."""
    branch_id, gid, op, mode = call.branch_id, call.gid, call.op, call.mode
    if not _NEEDS_NO_QUOTING.fullmatch(f"{branch_id}{gid}{op}{mode}"):
        branch_id, gid, op, mode = (quote_plus(value, errors="replace") for value in (branch_id, gid, op, mode))
    return f"branch_id={branch_id}&gid={gid}&op={op}&trans_type={mode}"


def read_authority(authority: str, default_port: int) -> tuple[str, str, int, str]:
    """Read ``host`` or ``host:port``; the host is a name or an IP address, IPv6 in brackets.

    Returns:
        Host to connect to, host as shown in a Host header, port, and what is wrong, in words.
    """
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        shown = f"[{host}]"
        valid = bool(bracket) and "%" not in host and _is_ipv6(host) and rest[:1] in ("", ":")
        port_text = rest[1:]
    else:
        host, _, port_text = authority.partition(":")
        host = shown = _ascii_host(host)
        valid = bool(_HOST.fullmatch(host))
    if not valid:
        return "", "", 0, f"it has no valid host name in {authority!r}"
    if not port_text:
        return host, shown, default_port, ""
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 0 < int(port_text) < 65536):
        return "", "", 0, f"{port_text!r} is not a port number from 1 to 65535"
    return host, shown, int(port_text), ""


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _ascii_host(host: str) -> str:
    """The host name in ASCII (IDNA); empty if it has no such form."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return ""
