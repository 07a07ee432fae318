"""Clients that are slow, go away, or do not speak HTTP cost nobody else anything."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time

import pytest

from reefknot.api.body import BodyReader
from reefknot.api.connection import ClientConnection
from reefknot.testing.server import LocalServer

SECONDS = 0.5
BODY = json.dumps({"gid": "half", "trans_type": "tcc"}).encode()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("reefknot.api.http.BodyReader", lambda limit: BodyReader(limit, SECONDS))
    with LocalServer(body_limit=65_536) as server:
        yield server


def connect(server):
    return socket.create_connection((server._host, server._port), timeout=5)


def head(length: int | None = None, path: str = "/api/dtmsvr/prepare") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode()


def everything(connection) -> bytes:
    """What arrives until the server closes."""
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


@pytest.mark.parametrize("first", [b"", b'{"gid":'], ids=["nothing", "a part"])
@pytest.mark.parametrize("path", ["/api/dtmsvr/prepare", "/api/dtmsvr/registerBranch", "/api/json-rpc"])
def test_a_body_that_does_not_arrive_is_cut_off(server, first, path):
    with connect(server) as connection:
        started = time.monotonic()
        connection.sendall(head(50, path) + first)
        reply = everything(connection)
    assert SECONDS <= time.monotonic() - started < SECONDS + 2
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert reply.endswith(b'\r\n\r\n{"message":"the body did not arrive within 0.5 s; send it faster"}')


def test_a_drip_of_bytes_does_not_extend_the_time(server):
    with connect(server) as connection:
        started = time.monotonic()
        connection.sendall(head(1000))

        def drip() -> None:
            for _ in range(100):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return
                time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        reply = connection.recv(1000)
        assert time.monotonic() - started < SECONDS + 2
        assert reply.startswith(b"HTTP/1.1 408 ")
    thread.join()


def test_slow_clients_do_not_hold_up_others(server):
    slow = [connect(server) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(head(50))
        started = time.monotonic()
        assert server.post("prepare", {"gid": "quick", "trans_type": "tcc"}).status == 200
        assert time.monotonic() - started < SECONDS
        assert all(everything(connection).startswith(b"HTTP/1.1 408 ") for connection in slow)
    finally:
        for connection in slow:
            connection.close()
    assert server.node.api._bodies._reading == {}
    assert server.node.api._bodies._late == set()


def test_a_body_in_time_but_in_pieces_is_whole(server):
    with connect(server) as connection:
        connection.sendall(head(len(BODY)))
        for number in range(0, len(BODY), 8):
            connection.sendall(BODY[number : number + 8])
            time.sleep(0.01)
        assert connection.recv(1000).endswith(b'{"dtm_result":"SUCCESS"}')
    assert server.status("half") == "prepared"


def test_chunked_without_length_is_limited_too(server):
    with connect(server) as connection:
        connection.sendall(head())
        for _ in range(5):
            connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        reply = connection.recv(1000)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert reply.endswith(b'{"message":"the body is larger than 65536 bytes; send less, or raise BodyLimit"}')


def test_chunked_within_the_limit_works(server):
    with connect(server) as connection:
        connection.sendall(head() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert connection.recv(1000).endswith(b'{"dtm_result":"SUCCESS"}')
    assert server.status("half") == "prepared"


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_who_goes_away_in_the_middle_of_the_body_has_asked_for_nothing(server, framing):
    """The part that came is complete JSON, and still not the request."""
    with connect(server) as connection:
        if framing == "length":
            connection.sendall(head(len(BODY) + 10) + BODY)
        else:
            connection.sendall(head() + b"%x\r\n%s\r\n" % (len(BODY), BODY))
        time.sleep(0.1)
    time.sleep(0.1)
    assert server.status("half") == ""
    assert server.node.api._bodies._reading == {}


@pytest.mark.conformance(
    "UnitDetachedContext", differs="there are no contexts: what was submitted goes on though its client went away"
)
def test_who_goes_away_before_the_reply_has_asked_nevertheless(server):
    gids = [f"gone{number}" for number in range(20)]
    for gid in gids:
        body = json.dumps({"gid": gid, "trans_type": "tcc"}).encode()
        with connect(server) as connection:
            connection.sendall(head(len(body)) + body)
    until = time.monotonic() + 5
    while [server.status(gid) for gid in gids] != ["prepared"] * 20:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert server.post("prepare", {"gid": "after", "trans_type": "tcc"}).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /api/ping HTTP/9.9\r\nHost: h\r\n\r\n",
        b"FROB /api/ping HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /api/dtmsvr/query?gid=\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /api/dtmsvr/query?gid=" + b"g" * 70_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /api/dtmsvr/prepare HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/dtmsvr/prepare HTTP/1.1\r\nHost: h\r\nContent-Length: ten\r\n\r\n",
        b"POST /api/dtmsvr/prepare HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /api/dtmsvr/prepare HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /api/dtmsvr/prepare HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
    ids=[
        "no request line",
        "no such version",
        "no such method",
        "bytes beyond ASCII",
        "URL of 70 KB",
        "negative length",
        "length is a word",
        "two lengths",
        "length and chunks",
        "no chunk size",
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_closed(server, sent):
    with connect(server) as connection:
        connection.sendall(sent)
        reply = everything(connection)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.endswith(b"\r\n\r\nInvalid HTTP request received.")
    assert server.get("all").json()["transactions"] == []


@pytest.fixture
def hasty(monkeypatch):
    """A server that waits half a second for the head of a request."""
    monkeypatch.setattr(ClientConnection, "head_seconds", SECONDS)
    with LocalServer() as server:
        yield server


@pytest.mark.parametrize("first", [b"", b"GET /api/ping HT", b"GET /api/ping HTTP/1.1\r\nHost: h\r\nX-A: "])
def test_a_head_that_does_not_arrive_is_cut_off(hasty, first):
    with connect(hasty) as connection:
        started = time.monotonic()
        connection.sendall(first)
        assert everything(connection) == b""
    assert SECONDS <= time.monotonic() - started < 2 * SECONDS + 2


def test_a_slow_head_after_a_quick_request_is_cut_off_too(hasty):
    with connect(hasty) as connection:
        connection.sendall(b"GET /api/ping HTTP/1.1\r\nHost: h\r\n\r\n")
        assert connection.recv(1000).endswith(b'{"msg":"pong"}')
        connection.sendall(b"GET /api/ping HTTP/1.1\r\nHost:")
        started = time.monotonic()
        assert everything(connection) == b""
    assert time.monotonic() - started < 2 * SECONDS + 2


def test_an_idle_connection_is_kept(hasty):
    """Clients keep connections between requests; that is not slowness."""
    with connect(hasty) as connection:
        for _ in range(2):
            connection.sendall(b"GET /api/ping HTTP/1.1\r\nHost: h\r\n\r\n")
            assert connection.recv(1000).endswith(b'{"msg":"pong"}')
            time.sleep(2.5 * SECONDS)


def test_a_request_that_waits_for_its_result_is_kept(hasty):
    """The time is for the head only."""
    body = {"gid": "slow", "trans_type": "msg", "steps": [{"action": ""}], "payloads": [""], "wait_result": True}
    answer = hasty.post("submit", {**body, "custom_data": '{"delay":2}', "request_timeout": 2})
    assert answer.status in (200, 425)


@pytest.mark.parametrize(
    "head", [b"X-A: " + b"a" * 2_000_000, b"\r\n".join(b"X-%d: 1" % n for n in range(200_000))], ids=["one", "many"]
)
def test_a_long_head_is_refused(hasty, head):
    with connect(hasty) as connection:
        with contextlib.suppress(OSError):  # the server does not listen to the end
            connection.sendall(b"GET /api/ping HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n\r\n")
        reply = b""
        with contextlib.suppress(ConnectionResetError):
            reply = everything(connection)
    assert reply == b"" or reply.endswith(b"\r\n\r\nThe head of the request is longer than 65536 bytes.")
    assert b"pong" not in reply
    assert hasty.send("GET", "/api/ping", **{"X-A": "a" * 30_000}).status == 200


def test_a_long_head_is_answered_if_the_client_listens(hasty):
    with connect(hasty) as connection:
        connection.sendall(b"GET /api/ping HTTP/1.1\r\nHost: h\r\n")
        sent = 0
        while not select.select([connection], [], [], 0.005)[0]:
            connection.sendall(b"X-A: " + b"a" * 2_000 + b"\r\n")
            sent += 2_007
        assert 60_000 < sent < 80_000
        reply = connection.recv(1000)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.endswith(b"\r\n\r\nThe head of the request is longer than 65536 bytes.")
