"""The protocol of a server's address."""

from __future__ import annotations

from reefknot.client.address import ServerAddress
from reefknot.client.protocols.base import ServerProtocol
from reefknot.client.protocols.http import HttpProtocol
from reefknot.client.protocols.jsonrpc import JsonRpcProtocol
from reefknot.errors import ConfigError


def protocol_for(address: ServerAddress) -> ServerProtocol:
    """The protocol in which the server is spoken to.

    Raises:
        ConfigError: it is gRPC, and protobuf is not installed.
    """
    if address.protocol == "grpc":
        try:
            from reefknot.client.protocols.grpc import GrpcProtocol  # noqa: PLC0415 - an extra
        except ImportError as error:
            text = f"gRPC needs a package that is not installed ({error}); pip install 'reefknot[grpc]'"
            raise ConfigError(text) from error
        return GrpcProtocol(address.url)
    if address.protocol == "json-rpc":
        return JsonRpcProtocol(address.url, address.http_routes)
    return HttpProtocol(address.url)
