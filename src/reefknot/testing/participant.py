"""A business service for tests: real HTTP, scripted answers, and a log of every call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import msgspec


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


class Call(msgspec.Struct, frozen=True):
    """One call as the participant saw it; times are on ``time.monotonic``.

    ``ended`` is when the answer was given, 0 while the call is under way.
    """

    method: str
    path: str
    gid: str
    mode: str
    branch_id: str
    op: str
    body: bytes
    headers: dict[str, str]
    started: float
    ended: float
    status: int


class Participant:
    """Answers every path with success unless told otherwise.

    Use it as a context manager; it listens on a free port.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripts: dict[str, list[Say]] = {}
        self._always: dict[str, Say] = {}
        self._business: Callable[[Call], Say | None] = _no_business
        self._handlers: dict[str, Callable[[Call], Say]] = {}
        self._calls: list[Call] = []
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

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def script(self, path: str, answers: Iterable[Say]) -> None:
        """Give these answers to the next calls of a path, then what ``always`` says."""
        with self._lock:
            self._scripts[path] = list(answers)

    def always(self, path: str, answer: Say) -> None:
        """Give this answer to every call of a path that has no script left."""
        with self._lock:
            self._always[path] = answer

    def on(self, path: str, handle: Callable[[Call], Say]) -> None:
        """Let a function answer the calls of a path, in the thread of the call; a script goes first."""
        with self._lock:
            self._handlers[path] = handle

    def business(self, work: Callable[[Call], Say | None]) -> None:
        """Do this for every call that is about to be answered with success; its answer replaces that one.

        It runs in the thread of the call, so it may block or call the server back.
        """
        self._business = work

    def work(self, call: Call) -> Say | None:
        """Do the business of a call."""
        return self._business(call)

    @property
    def calls(self) -> list[Call]:
        """Every call so far, in order of arrival; a call under way is in it too."""
        with self._lock:
            return list(self._calls)

    def called(self, gid: str = "") -> list[str]:
        """The paths that were called, in order of arrival; of one gid if it is named."""
        return [call.path for call in self.calls if not gid or call.gid == gid]

    def arrived(self, call: Call) -> tuple[int, Say]:
        """Note a call; its number and the answer it gets."""
        with self._lock:
            self._calls.append(call)
            number = len(self._calls) - 1
            script = self._scripts.get(call.path)
            if script:
                return number, script.pop(0)
            handle = self._handlers.get(call.path)
            if handle is None:
                return number, self._always.get(call.path, OK)
        return number, handle(call)

    def ended(self, number: int, status: int) -> None:
        """Note the answer of a call."""
        with self._lock:
            self._calls[number] = msgspec.structs.replace(self._calls[number], ended=time.monotonic(), status=status)


def _no_business(_: Call) -> None:
    return None


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
            ended=0.0,
            status=0,
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
