"""A business service for tests: real HTTP, scripted answers, and a log of every call."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import msgspec

from reefknot.testing.scripted import LoggedCall, Scripted


class Say(msgspec.Struct, frozen=True):
    """One scripted answer; ``seconds`` passes between the request and the answer."""

    status: int = 200
    body: bytes = b'{"dtm_result":"SUCCESS"}'
    seconds: float = 0.0
    hang_up: bool = False
    headers: tuple[tuple[str, str], ...] = ()


OK = Say()
ONGOING = Say(425, b'{"dtm_result":"ONGOING"}')
FAILURE = Say(409, b"reason:refused. FAILURE")
ERROR = Say(500, b"internal server error")
HANG_UP = Say(hang_up=True)


class Call(LoggedCall, frozen=True, kw_only=True):
    """One call as the participant saw it; ``status`` is 0 while it is under way."""

    method: str
    headers: dict[str, str]
    status: int = 0


class Participant(Scripted[Call, Say]):
    """Answers every path with success unless told otherwise.

    Use it as a context manager; it listens on a free port.
    """

    def __init__(self) -> None:
        super().__init__(OK)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.participant = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self._server.server_port

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    participant: Participant

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A server under test may die in the middle of a call: that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """Answer a POST."""
        self._answer()

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = Call(
            method=self.command,
            path=parts.path,
            gid=query.get("gid", ""),
            mode=query.get("trans_type", ""),
            branch_id=query.get("branch_id", ""),
            op=query.get("op", ""),
            body=body,
            headers=dict(self.headers.items()),
            started=time.monotonic(),
        )
        number, answer = self.server.participant.arrived(call)
        if answer.seconds:
            time.sleep(answer.seconds)
        if 200 <= answer.status < 300:
            answer = self.server.participant.work(call) or answer
        self.server.participant.ended(number, 0 if answer.hang_up else answer.status)
        if answer.hang_up:
            self.close_connection = True
            return
        head = f"HTTP/1.1 {answer.status} Scripted\r\nContent-Type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        head += f"Content-Length: {len(answer.body)}\r\n\r\n"
        self.wfile.write(head.encode() + answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the calls are in the participant's log."""
