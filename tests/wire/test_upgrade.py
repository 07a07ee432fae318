"""A request that asks for another protocol is answered as if it had not asked: its body is its body.

Java's HttpClient and ``curl --http2`` ask for HTTP/2 with every request to an http:// URL.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time

import pytest

from reefknot.testing.server import LocalServer

H2C = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
}
WORDS = {
    "h2c": H2C,
    "other case": {"cOnNeCtIoN": "UPGRADE", "uPgRaDe": "H2C"},
    "any word": {"Upgrade": "nonsense/9", "Connection": "keep-alive, upgrade"},
    "websocket": {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "eA==",
        "Sec-WebSocket-Version": "13",
    },
    "twice": {"Connection": "upgrade", "Upgrade": "h2c", "upgrade": "websocket"},
    "nothing": {"Connection": "upgrade", "Upgrade": ""},
}


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


def connect(server):
    connection = socket.create_connection((server._host, server._port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def prepare(gid: str, extra: dict[str, str] = H2C, *, padding: int = 0, chunked: bool = False) -> tuple[bytes, bytes]:
    """Head and body of a request that asks for another protocol."""
    body = json.dumps({"gid": gid, "trans_type": "tcc", "custom_data": "x" * padding}).encode()
    lines = [f"{name}: {value}" for name, value in extra.items()]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        middle = len(body) // 2
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:], b""))
    else:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(["POST /api/dtmsvr/prepare HTTP/1.1", "Host: h", *lines, "", ""])
    return head.encode(), body


def everything(connection) -> bytes:
    """What arrives until the server closes."""
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


def answer(connection) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


SUCCESS = (200, b'{"dtm_result":"SUCCESS"}')


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("extra", WORDS.values(), ids=WORDS)
def test_a_request_that_asks_for_another_protocol_is_served_and_the_connection_kept(server, extra, chunked):
    gids = [f"served {list(WORDS.values()).index(extra)} {chunked} {number}" for number in range(4)]
    with connect(server) as connection:
        connection.sendall(b"".join(prepare(gids[0], extra, chunked=chunked)))
        assert answer(connection) == SUCCESS
        for part in prepare(gids[1], extra, chunked=chunked):
            connection.sendall(part)
            time.sleep(0.05)
        assert answer(connection) == SUCCESS
        connection.sendall(b"".join(prepare(gids[2], {})))
        assert answer(connection) == SUCCESS
        connection.sendall(b"".join(prepare(gids[3], {**extra, "Expect": "100-continue"}, chunked=chunked)))
        assert answer(connection) == SUCCESS
    assert [server.status(gid) for gid in gids] == ["prepared"] * 4


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_it_does_not_matter_where_the_bytes_are_cut(server, chunked):
    request = b"".join(prepare("cut 000", chunked=chunked))
    with connect(server) as connection:
        for cut in range(1, len(request)):
            whole = request.replace(b"cut 000", b"cut %03d" % cut)
            connection.sendall(whole[:cut])
            time.sleep(0.002)
            connection.sendall(whole[cut:])
            assert answer(connection) == SUCCESS, cut
        assert {server.status(f"cut {cut:03}") for cut in range(1, len(request))} == {"prepared"}


def test_it_does_not_matter_that_each_byte_comes_alone(server):
    with connect(server) as connection:
        for byte in b"".join(prepare("alone")):
            connection.sendall(bytes([byte]))
            time.sleep(0.001)
        assert answer(connection) == SUCCESS
    assert server.status("alone") == "prepared"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_of_several_reads_is_whole(server, chunked):
    gid = f"long {chunked}"
    with connect(server) as connection:
        connection.sendall(b"".join(prepare(gid, padding=900_000, chunked=chunked)))
        assert answer(connection) == SUCCESS
        connection.sendall(b"".join(prepare(f"after {gid}")))
        assert answer(connection) == SUCCESS
    assert len(server.get("query", gid=gid).json()["transaction"]["custom_data"]) == 900_000


def test_requests_behind_it_in_the_same_segment_are_served_in_turn(server):
    gids = [f"row {number}" for number in range(40)]
    requests = [b"".join(prepare(gid, H2C if number % 3 else {})) for number, gid in enumerate(gids)]
    requests.append(b"GET /api/ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    with connect(server) as connection:
        connection.sendall(b"".join(requests))
        received = everything(connection)
    assert re.findall(rb'"(SUCCESS|pong)"', received) == [b"SUCCESS"] * len(gids) + [b"pong"]
    assert {server.status(gid) for gid in gids} == {"prepared"}


@pytest.mark.parametrize(
    "extra", [{"X-Asked": "Upgrade: h2c"}, {"X-Upgrade": "h2c", "Connection": "upgrade"}, {"Upgrade": "h2c"}]
)
def test_the_word_elsewhere_is_nothing(server, extra):
    gid = f"elsewhere {len(extra)} {next(iter(extra))}"
    body = json.dumps(
        {"gid": gid, "trans_type": "tcc", "custom_data": "\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"}
    )
    assert server.send("POST", "/api/dtmsvr/prepare", body.encode(), **extra).body == SUCCESS[1]
    assert server.get("query", gid=gid).json()["transaction"]["custom_data"] == json.loads(body)["custom_data"]


@pytest.mark.parametrize("reads", ["one", "two", "many"])
@pytest.mark.parametrize("extra", WORDS.values(), ids=WORDS)
def test_a_body_is_never_taken_for_a_request(server, extra, reads):
    """Who filters requests in front of the server sees one; if it served two, the second would get past the filter."""
    gid = f"victim {list(WORDS.values()).index(extra)} {reads}"
    server.post("prepare", {"gid": gid, "trans_type": "tcc"})
    inner = json.dumps({"gid": gid}).encode()
    # Line ends before a request are skipped, so that it may begin anywhere.
    body = b"\r\n" * (300_000 if reads == "many" else 1)
    body += b"POST /api/dtmsvr/forceStop HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(inner), inner)
    lines = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
    head = f"POST /api/ping HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()
    with connect(server) as connection:
        if reads == "two":
            connection.sendall(head)
            time.sleep(0.05)
            connection.sendall(body)
        else:
            connection.sendall(head + body)
        connection.sendall(b"GET /api/dtmsvr/newGid HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        received = everything(connection)
    assert len(re.findall(rb"HTTP/1\.1 \d", received)) == 2
    assert received.count(b'"pong"') == received.count(b'"gid"') == 1
    assert server.status(gid) == "prepared"


def test_old_http_ends_with_its_answer(server):
    head, body = prepare("old")
    with connect(server) as connection:
        connection.sendall(head.replace(b"HTTP/1.1", b"HTTP/1.0") + body + b"".join(prepare("behind the old")))
        received = everything(connection)
    assert received.endswith(SUCCESS[1])
    assert len(re.findall(rb"HTTP/1\.1 \d", received)) == 1
    assert (server.status("old"), server.status("behind the old")) == ("prepared", "")


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT /api/dtmsvr/prepare HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n",
        # Folded lines: two readers could see two heads.
        b"POST /api/ping HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\nX-A: a\r\n Content-Length: 9\r\n\r\n",
        b"POST http: HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=["CONNECT to a path", "CONNECT", "CONNECT and another", "folded", "no path"],
)
@pytest.mark.parametrize("reads", [1, 2])
def test_what_cannot_be_served_closes_the_connection(server, head, reads):
    gid = f"refused {head[:12]!r} {reads}"
    behind = b"".join(prepare(gid, {}))
    with connect(server) as connection:
        connection.sendall(head if reads == 2 else head + behind)
        received = connection.recv(65_536)
        if reads == 2:
            with contextlib.suppress(OSError):
                connection.sendall(behind)
        with contextlib.suppress(ConnectionResetError):
            received += everything(connection)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert len(re.findall(rb"HTTP/1\.1 \d", received)) == 1
    assert server.status(gid) == ""
