"""Answers that are too large, too slow or compressed end in an error, not in a full memory or a program that waits.

The peer is a bare socket: no HTTP library would send these.
"""

import contextlib
import gzip
import itertools
import socket
import threading
import time

import pytest

from reefknot import OutcomeUnknown, ServerUnavailable
from reefknot.client.exchange import ANSWER_LIMIT_BYTES
from reefknot.testing.grpc_participant import GrpcParticipant
from reefknot.testing.grpc_participant import Say as GrpcSay
from reefknot.testing.participant import Participant, Say
from sdk.client_faces import FACES, open_client

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DONE = b'{"dtm_result":"SUCCESS"}'
PART = bytes(1024 * 1024)


class Peer:
    """Answers each request with the head and then the parts, as long as anybody listens."""

    def __init__(self, head, parts, pause_seconds=0.0):
        self.sent = self.connections = 0
        self._head, self._parts, self._pause_seconds = head, parts, pause_seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        # A listener that is only closed goes on accepting in its thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):
                    while connection.recv(65536):
                        connection.sendall(self._head)
                        for part in self._parts():
                            time.sleep(self._pause_seconds)
                            connection.sendall(part)
                            self.sent += len(part)
                        if b"close" in self._head:
                            break


@pytest.fixture(params=FACES)
def face(request):
    return request.param


def chunked():
    part = b"%x\r\n%b\r\n" % (len(PART), PART)
    return itertools.repeat(part)


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        (b"Content-Length: %d\r\n\r\n" % (ANSWER_LIMIT_BYTES + 1), lambda: itertools.repeat(PART)),
        (b"Connection: close\r\n\r\n", lambda: itertools.repeat(PART)),
        (b"Transfer-Encoding: chunked\r\n\r\n", chunked),
    ],
    ids=["announced", "until the end", "chunked"],
)
def test_answer_without_end_is_not_read_to_the_end(face, head, parts):
    with Peer(HEAD + head, parts) as peer, open_client(face, peer.url, timeout=20) as client:
        with pytest.raises(ServerUnavailable, match=f"larger than {ANSWER_LIMIT_BYTES} bytes"):
            client.get("g-1")
        with pytest.raises(OutcomeUnknown, match=f"larger than {ANSWER_LIMIT_BYTES} bytes"):
            client.msg("g-1").send("http://bank/in").submit()
    # What lies in the buffers of two sockets comes on top.
    assert peer.sent < 4 * ANSWER_LIMIT_BYTES


@pytest.mark.parametrize("length", [b"Content-Length: 1000\r\n", b"Connection: close\r\n"], ids=["announced", "not"])
def test_answer_in_drops_ends_in_time(face, length):
    with (
        Peer(HEAD + length + b"\r\n", lambda: itertools.repeat(b" ", 100), 0.1) as peer,
        open_client(face, peer.url, timeout=0.5) as client,
    ):
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown, match=r"(?i)time"):
            client.msg("g-1").send("http://bank/in").submit()
        assert time.monotonic() - began < 4


def test_compressed_answer_is_not_taken_for_success(face):
    body = gzip.compress(b'{"dtm_result":"FAILURE"}')
    answer = Say(200, body, headers=(("Content-Encoding", "gzip"),))
    with Participant() as bank:
        bank.always("/api/dtmsvr/submit", answer)
        with (
            open_client(face, bank.url("")) as client,
            pytest.raises(OutcomeUnknown, match=r"compressed \(gzip\), which was not asked for"),
        ):
            client.msg("g-1").send("http://bank/in").submit()


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        (b"Content-Length: %d\r\n\r\n" % len(DONE), [DONE[:5], DONE[5:]]),
        (b"Transfer-Encoding: chunked\r\n\r\n", [b"%x\r\n%b\r\n" % (len(DONE), DONE), b"0\r\n\r\n"]),
    ],
    ids=["announced", "chunked"],
)
def test_connection_of_a_whole_answer_is_used_again(face, head, parts):
    with Peer(HEAD + head, lambda: parts, 0.05) as peer, open_client(face, peer.url) as client:
        for _ in range(3):
            client.msg().send("http://bank/in").submit()
        assert peer.connections == 1


def test_grpc_answer_that_is_too_large_may_be_that_of_a_request_carried_out(face):
    with GrpcParticipant() as dtm:
        dtm.always("/dtmgimp.Dtm/Submit", GrpcSay(body=bytes(ANSWER_LIMIT_BYTES + 1)))
        with (
            open_client(face, f"grpc://127.0.0.1:{dtm.port}", timeout=20) as client,
            pytest.raises(OutcomeUnknown, match="larger than max"),
        ):
            client.msg("g-1").send("bank:1/Bank/In").submit()
