"""Calls a server over gRPC, as a program without an SDK would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, cast

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from reefknot.wire.proto import dtmgimp_pb2, transactions_pb2

#: How long a call may take in a test.
PATIENCE_SECONDS = 30.0

_FILES = {"dtmgimp.Dtm": dtmgimp_pb2, "reefknot.v1.Transactions": transactions_pb2}


class GrpcClient:
    """A channel to one server. Use it as a context manager.

    Args:
        address: ``host:port``.
        credentials: for TLS; none is plain text.
        options: of the channel.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: tuple[tuple[str, str | int], ...] = (),
    ) -> None:
        if credentials is None:
            self.channel = grpc.insecure_channel(address, options)
        else:
            self.channel = grpc.secure_channel(address, credentials, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()

    def dtm(self, method: str, fields: dict[str, Any] | None = None, seconds: float = PATIENCE_SECONDS) -> Any:
        """Call a method of DTM's service.

        Args:
            method: for example ``Submit``.
            fields: of the request's message.
            seconds: until when an answer must be there.

        Returns:
            The reply's message.

        Raises:
            grpc.RpcError: the status is not OK.
        """
        return self._call("dtmgimp.Dtm", method, fields, seconds)

    def transactions(self, method: str, fields: dict[str, Any] | None = None, seconds: float = PATIENCE_SECONDS) -> Any:
        """Call a method of our own service; see ``dtm``."""
        return self._call("reefknot.v1.Transactions", method, fields, seconds)

    def watch(self, gid: str, seconds: float = PATIENCE_SECONDS) -> Iterator[Any]:
        """The states of a transaction as they come."""
        asked, reply = messages("reefknot.v1.Transactions", "Watch")
        stream = self.channel.unary_stream(
            "/reefknot.v1.Transactions/Watch",
            request_serializer=asked.SerializeToString,
            response_deserializer=reply.FromString,
        )
        return cast("Iterator[Any]", stream(asked(gid=gid), timeout=seconds))

    def raw(self, service: str, method: str, body: bytes, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Call a method with these bytes."""
        call = cast("Callable[..., bytes]", self.channel.unary_unary(f"/{service}/{method}"))
        return call(body, timeout=seconds)

    def _call(self, service: str, method: str, fields: dict[str, Any] | None, seconds: float) -> Any:
        asked, reply = messages(service, method)
        return reply.FromString(self.raw(service, method, asked(**fields or {}).SerializeToString(), seconds))


def messages(service: str, method: str) -> tuple[type[Message], type[Message]]:
    """The classes of a method's request and reply."""
    name = service.rpartition(".")[2]
    found = _FILES[service].DESCRIPTOR.services_by_name[name].methods_by_name[method]
    return GetMessageClass(found.input_type), GetMessageClass(found.output_type)


def methods() -> list[tuple[str, str]]:
    """Every method of both services, as its service and its name."""
    return [
        (service, method.name)
        for service, file in _FILES.items()
        for method in file.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods
    ]
