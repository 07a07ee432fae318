"""Tries a service config on a channel to nobody."""

from __future__ import annotations

import grpc

_TARGET = "unix:/nonexistent/reefknot"
_METHOD = "/reefknot/Try"
_SECONDS = 5.0


def service_config_problem(service_config: str) -> str:
    """What gRPC finds wrong with a service config, in its own words; empty if it takes it.

    Args:
        service_config: as in ``CallerSettings``.
    """
    with grpc.insecure_channel(_TARGET, [("grpc.service_config", service_config)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
        try:
            call(b"", timeout=_SECONDS)
        except grpc.RpcError as error:
            # Of a config that it takes it says that the service cannot be reached.
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                return str(error.details()).partition("errors validating service config: ")[2] or str(error.details())
    return ""
