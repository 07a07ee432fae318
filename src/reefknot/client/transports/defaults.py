"""The transports a client makes for itself. A library is imported when its scheme is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reefknot.errors import ConfigError

if TYPE_CHECKING:
    from reefknot.client.exchange import AsyncTransport, Transport


def http() -> Transport:
    """HTTP for ``Client``, by urllib3."""
    from reefknot.client.transports.urllib3 import Urllib3Transport  # noqa: PLC0415 - not needed over gRPC

    return Urllib3Transport()


def async_http() -> AsyncTransport:
    """HTTP for ``AsyncClient``, by aiohttp.

    Raises:
        ConfigError: aiohttp is not installed.
    """
    try:
        from reefknot.client.transports.aiohttp import AiohttpTransport  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing(error, "async", "AsyncClient over HTTP") from error
    return AiohttpTransport()


def grpc() -> Transport:
    """GRPC for ``Client``.

    Raises:
        ConfigError: grpcio is not installed.
    """
    try:
        from reefknot.client.transports.grpc import GrpcTransport  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing(error, "grpc", "gRPC") from error
    return GrpcTransport()


def async_grpc() -> AsyncTransport:
    """GRPC for ``AsyncClient``.

    Raises:
        ConfigError: grpcio is not installed.
    """
    try:
        from reefknot.client.transports.grpc_aio import AsyncGrpcTransport  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing(error, "grpc", "gRPC") from error
    return AsyncGrpcTransport()


def _missing(error: ImportError, extra: str, what: str) -> ConfigError:
    return ConfigError(f"{what} needs a package that is not installed ({error}); pip install 'reefknot[{extra}]'")
