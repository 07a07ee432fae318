"""Unary gRPC calls of raw messages from asyncio: one channel for each server and event loop."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import grpc
import grpc.aio

from reefknot.client.exchange import NotSent, Request, Response
from reefknot.client.transports.grpc_channels import OPTIONS, check_process, never_sent, parts_of, text_of


class AsyncGrpcTransport:
    """Carries ``GRPC`` requests; see ``reefknot.client.exchange.AsyncTransport``.

    Args:
        credentials: for ``grpcs://``; the system's certificate authorities where there are none.
    """

    def __init__(self, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._credentials = credentials
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._process = os.getpid()

    async def send(self, request: Request) -> Response:
        """Make the call once and return its code and message.

        Raises:
            NotSent: no connection could be made; or the process has forked after the first call.
        """
        parts = parts_of(request.url)
        channel = self._channel(parts.origin, parts.target, secure=parts.secure)
        call: Any = channel.unary_unary(parts.method)
        try:
            body: bytes = await call(request.body, timeout=request.timeout, metadata=parts.metadata(request))
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if never_sent(code, details):
                raise NotSent(details) from error
            return Response(code.value[0], text_of(details))
        return Response(0, body)

    async def close(self) -> None:
        """Close the channels, unless they are those of the process that forked this one."""
        if self._process != os.getpid():
            return
        channels, self._channels = self._channels, {}
        if self._loop is asyncio.get_running_loop():
            for channel in channels.values():
                await channel.close()

    def _channel(self, origin: str, target: str, *, secure: bool) -> grpc.aio.Channel:
        if self._channels:
            check_process(self._process)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._channels = loop, {}
        channel = self._channels.get(origin)
        if channel is None:
            if secure:
                credentials = self._credentials or grpc.ssl_channel_credentials()
                channel = grpc.aio.secure_channel(target, credentials, OPTIONS)
            else:
                channel = grpc.aio.insecure_channel(target, OPTIONS)
            self._channels[origin] = channel
            self._process = os.getpid()
        return channel
