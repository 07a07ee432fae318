"""Unary gRPC calls of raw messages: one channel for each server, shared between threads."""

from __future__ import annotations

import os
import threading
from typing import Any

import grpc

from reefknot.client.exchange import NotSent, Request, Response
from reefknot.client.transports.grpc_channels import OPTIONS, check_process, never_sent, parts_of, text_of


class GrpcTransport:
    """Carries ``GRPC`` requests; see ``reefknot.client.exchange.Transport``.

    Args:
        credentials: for ``grpcs://``; the system's certificate authorities where there are none.
    """

    def __init__(self, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._process = os.getpid()

    def send(self, request: Request) -> Response:
        """Make the call once and return its code and message.

        Raises:
            NotSent: no connection could be made; or the process has forked after the first call.
        """
        parts = parts_of(request.url)
        call: Any = self._channel(parts.origin, parts.target, secure=parts.secure).unary_unary(parts.method)
        try:
            body: bytes = call(request.body, timeout=request.timeout, metadata=parts.metadata(request))
        except grpc.RpcError as error:
            failed: Any = error
            code, details = failed.code(), failed.details() or ""
            if never_sent(code, details):
                raise NotSent(details) from error
            return Response(code.value[0], text_of(details))
        return Response(0, body)

    def close(self) -> None:
        """Close the channels, unless they are those of the process that forked this one."""
        if self._process != os.getpid():
            return
        with self._lock:
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()

    def _channel(self, origin: str, target: str, *, secure: bool) -> grpc.Channel:
        if self._channels:
            check_process(self._process)
        with self._lock:
            channel = self._channels.get(origin)
            if channel is None:
                if secure:
                    channel = grpc.secure_channel(target, self._credentials or grpc.ssl_channel_credentials(), OPTIONS)
                else:
                    channel = grpc.insecure_channel(target, OPTIONS)
                self._channels[origin] = channel
                self._process = os.getpid()
            return channel
