"""A business service for tests: real gRPC, scripted answers, and a log of every call."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import grpc
import msgspec

from reefknot.testing.scripted import LoggedCall, Scripted

#: Calls under way at once; a call that hangs takes one.
_THREADS = 64


class Say(msgspec.Struct, frozen=True):
    """One scripted answer; ``seconds`` passes between the request and the answer.

    ``status`` is the name of a gRPC status code, ``text`` its message, ``body`` the message of OK.
    """

    status: str = "OK"
    text: str = ""
    body: bytes = b""
    seconds: float = 0.0
    hang_up: bool = False


OK = Say()
ONGOING = Say("FAILED_PRECONDITION", "not yet")
FAILURE = Say("ABORTED", "reason:refused")
ERROR = Say("UNKNOWN", "internal error")
HANG_UP = Say(hang_up=True)


class Call(LoggedCall, frozen=True, kw_only=True):
    """One call as the participant saw it.

    ``path`` is the method, ``deadline_seconds`` what was left for the call when it arrived. ``status`` is empty
    while the call is under way, and for a connection that was cut.
    """

    metadata: dict[str, str | bytes]
    deadline_seconds: float
    status: str = ""


class GrpcParticipant(Scripted[Call, Say]):
    """Answers every method with an empty success unless told otherwise.

    Use it as a context manager; it listens on a free port of 127.0.0.1.

    Args:
        port: where to listen; 0 for any free port.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(OK)
        self._stopping = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), handlers=[_AnyMethod(self)])
        self._wires = _Wires(port, self._server.add_insecure_port("127.0.0.1:0"))

    def __enter__(self) -> Self:
        self._server.start()
        self._wires.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._wires.close()
        self._server.stop(0).wait()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._wires.port

    @property
    def connections(self) -> int:
        """How many connections it has accepted."""
        return self._wires.accepted

    def url(self, method: str) -> str:
        """The branch URL of a method, for example ``/bank.Bank/TransOut``."""
        return f"127.0.0.1:{self.port}{method}"

    def answer(self, method: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer a call; in the thread of the call."""
        metadata = {key: value for key, value in context.invocation_metadata()}  # noqa: C416 - named tuples
        texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
        call = Call(
            path=method,
            gid=texts.get("dtm-gid", ""),
            mode=texts.get("dtm-trans_type", ""),
            branch_id=texts.get("dtm-branch_id", ""),
            op=texts.get("dtm-op", ""),
            body=body,
            metadata=metadata,
            deadline_seconds=context.time_remaining() or 0.0,
            started=time.monotonic(),
        )
        number, answer = self.arrived(call)
        if answer.seconds:
            self._stopping.wait(answer.seconds)
        if answer.status == "OK" and not answer.hang_up:
            answer = self.work(call) or answer
        self.ended(number, "" if answer.hang_up else answer.status)
        if answer.hang_up:
            self._wires.cut(context.peer())
        elif answer.status != "OK":
            context.abort(grpc.StatusCode[answer.status], answer.text)
        return answer.body


class _AnyMethod(grpc.GenericRpcHandler):
    """Takes every method as a unary one, bytes in and bytes out."""

    def __init__(self, participant: GrpcParticipant) -> None:
        self._participant = participant

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._participant.answer(method, body, context)
        )


class _Wires:
    """Passes bytes between clients and the gRPC server, which cannot cut a connection by itself.

    Args:
        port: where to listen.
        server_port: where the server listens.
    """

    def __init__(self, port: int, server_port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._server_port = server_port
        #: Both ends of a connection, by the address that the server sees.
        self._pairs: dict[str, tuple[socket.socket, socket.socket]] = {}
        self.accepted = 0
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more and cut all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in list(self._pairs):
            self.cut(peer)

    def cut(self, peer: str) -> None:
        """End the connection that the server sees as ``peer``."""
        for end in self._pairs.pop(peer, ()):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = f"ipv4:127.0.0.1:{server.getsockname()[1]}"
                self._pairs[peer] = (client, server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(peer, *ends), daemon=True).start()

    def _pass_on(self, peer: str, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self.cut(peer)
        source.close()
