"""The gRPC port: services, health, reflection, TLS, limits, and an orderly end."""

from __future__ import annotations

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from reefknot.api import grpc as dtm
from reefknot.api import grpc_transactions as transactions
from reefknot.api.grpc_calls import Calls
from reefknot.api.grpc_tls import certificates
from reefknot.coordinator.coordinator import Coordinator
from reefknot.errors import ConfigError

#: Calls at once over all connections; further ones are answered RESOURCE_EXHAUSTED.
CALLS_MOST = 10_000
#: A client that says nothing is asked after so long whether it is there, and given up after so long again.
KEEP_ALIVE_SECONDS = 60
KEEP_ALIVE_TIMEOUT_SECONDS = 20
#: A client may ask us this often; one that asks more often is sent away.
PING_SECONDS = 10
#: A connection without a call is closed after that; clients make a new one by themselves.
IDLE_SECONDS = 1_800

__all__ = ["Calls", "GrpcServer", "GrpcSettings"]

_SERVICES = (dtm.SERVICE, transactions.SERVICE)
_SERVING = health_pb2.HealthCheckResponse.SERVING


class GrpcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how the port is opened.

    ``share``: whether other processes that also share may listen on the port. ``streams`` is the most
    calls at once on one connection. The last three are PEM files: without them there is no TLS.
    """

    host: str
    port: int
    share: bool
    message_bytes: int
    streams: int
    certificate: str = ""
    key: str = ""
    client_authority: str = ""


class GrpcServer:
    """The services behind one port. It must be made and used on the loop that runs it.

    Args:
        reset_seconds: what ``RetryLater`` takes if the client does not say.

    Raises:
        ConfigError: the address cannot be used, somebody listens there already, or a certificate is wrong.
    """

    def __init__(self, settings: GrpcSettings, calls: Calls, coordinator: Coordinator, reset_seconds: int) -> None:
        self._calls = calls
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=CALLS_MOST)
        services = (dtm.DtmService(coordinator), transactions.TransactionsService(coordinator, reset_seconds))
        self._server.add_generic_rpc_handlers(tuple(service.handlers(calls) for service in services))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        #: Where it listens, ``host:port``.
        self.address = self._open(settings)

    def _open(self, settings: GrpcSettings) -> str:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        wanted = f"{host}:{settings.port}"
        files = certificates(settings.certificate, settings.key, settings.client_authority)
        try:
            if files is None:
                port = self._server.add_insecure_port(wanted)
            else:
                port = self._server.add_secure_port(wanted, files.credentials())
        except RuntimeError as error:
            raise ConfigError(
                f"GrpcHost, GrpcPort: cannot listen on {wanted} (address in use, or not of this machine); "
                "choose another port, or 0 for no gRPC"
            ) from error
        return f"{host}:{port}"

    async def start(self) -> None:
        """Answer calls and say that we do."""
        for name in _SERVICES:
            await self._health.set(name, _SERVING)
        await self._server.start()

    async def drain(self, seconds: float) -> None:
        """Say NOT_SERVING, refuse new calls, and wait for those that run, so many seconds at most.

        Connections stay open: who asks for our health is answered until ``stop``.
        """
        self._calls.drain()
        await self._health.enter_graceful_shutdown()
        await self._calls.finished(seconds)

    async def stop(self) -> None:
        """Close every connection."""
        await self._server.stop(None)


def _options(settings: GrpcSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(settings.share)),
        ("grpc.max_receive_message_length", settings.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", settings.streams),
        ("grpc.keepalive_time_ms", KEEP_ALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEP_ALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
    ]
