"""The server's address: which protocol a URL means, and where its routes are."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from reefknot.errors import Invalid

HTTP_PATH = "/api/dtmsvr"
JSONRPC_PATH = "/api/json-rpc"
HTTP_SCHEMES = ("http", "https")
GRPC_SCHEMES = ("grpc", "grpcs")


class ServerAddress(msgspec.Struct, frozen=True):
    """Where the server is.

    Attributes:
        protocol: ``http``, ``json-rpc`` or ``grpc``.
        url: the prefix of its routes: ``http://host:port/api/dtmsvr``, the JSON-RPC URL, or
            ``grpc://host:port``.
    """

    protocol: str
    url: str

    @property
    def http_routes(self) -> str:
        """The prefix of the HTTP routes, which JSON-RPC shares its port with."""
        return self.url.removesuffix(JSONRPC_PATH) + HTTP_PATH if self.protocol == "json-rpc" else self.url

    @property
    def dtm(self) -> str:
        """The server as a branch is told it: gRPC without the scheme, as DTM's clients write it."""
        return self.url.partition("://")[2] if self.protocol == "grpc" else self.url


def parse(url: str) -> ServerAddress:
    """Read a server's URL.

    Args:
        url: ``http(s)://host[:port]`` with or without ``/api/dtmsvr``; ``http(s)://…/api/json-rpc``;
            ``grpc://host:port``; ``grpcs://host:port``. A path before ``/api`` is kept.

    Raises:
        Invalid: it is none of these.
    """
    fix = "give http://host:36789, http://host:36789/api/json-rpc or grpc://host:36790"
    # First of all: what may hold a password is not quoted below.
    if "@" in url or "?" in url or "#" in url:
        raise Invalid("url", "has a query, a fragment or a user name", "pass credentials as headers=")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Invalid("url", f"{url!r} is no URL: its port must be a number", fix) from None
    if parts.scheme not in (*HTTP_SCHEMES, *GRPC_SCHEMES) or not host:
        raise Invalid("url", f"{url!r} names no server", fix)
    path = parts.path.rstrip("/")
    base = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme in GRPC_SCHEMES:
        if path or port is None:
            raise Invalid("url", f"{url!r} needs a port and has no path over gRPC", f"give {parts.scheme}://host:36790")
        return ServerAddress("grpc", base)
    if path.endswith(JSONRPC_PATH):
        return ServerAddress("json-rpc", base + path)
    return ServerAddress("http", base + path.removesuffix(HTTP_PATH) + HTTP_PATH)
