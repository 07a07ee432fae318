"""Participants that hang, hang up or answer nonsense: only their own transactions wait for them."""

import socketserver
import threading
import time

import pytest

from crash.scenario import QUICK
from reefknot.testing.participant import HANG_UP, Participant, Say
from reefknot.testing.server import ServerProcess

pytestmark = [pytest.mark.crash, pytest.mark.slow]

EACH = 20
NONSENSE = (
    b"\x00\xff\xfe\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/9 abc\r\n" + b"x" * 100_000,
)


class Nonsense(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(4096)
        self.request.sendall(NONSENSE[self.server.answers % len(NONSENSE)])
        self.server.answers += 1


class NonsenseServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    answers = 0

    def handle_error(self, request, client_address):
        """The client hangs up in the middle of nonsense: that is the point."""


@pytest.fixture
def nonsense():
    with NonsenseServer(("127.0.0.1", 0), Nonsense) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_only_their_own_transactions_suffer(tmp_path, nonsense):
    with Participant() as good, Participant() as bad:
        bad.always("/hang", Say(seconds=3.0))
        bad.always("/hang-up", HANG_UP)
        bad.always("/html", Say(502, b"<html>FAILURE is not the answer</html>"))
        bad.always("/huge", Say(200, b"x" * 2_000_000))
        with ServerProcess(f"sqlite:///{tmp_path}/server.db", environment=QUICK) as server:
            urls = {kind: bad.url(f"/{kind}") for kind in ("hang", "hang-up", "html", "huge")}
            urls["nonsense"] = f"http://127.0.0.1:{nonsense.server_address[1]}/"
            pid = server.process.pid
            for number in range(EACH):
                for kind, url in (*urls.items(), ("good", good.url("/ok"))):
                    step = {"action": url, "compensate": good.url("/undo")}
                    submit = {"gid": f"{kind}-{number}", "trans_type": "saga", "steps": [step], "payloads": ["{}"]}
                    assert server.post("submit", submit).status == 200
            started = time.monotonic()
            for number in range(EACH):
                assert server.wait_for(f"good-{number}", "succeed", "failed", seconds=10) == "succeed"
            assert time.monotonic() - started < 5
            until = time.monotonic() + 15
            while nonsense.answers < 2 * EACH and time.monotonic() < until:
                time.sleep(0.05)
            assert nonsense.answers >= 2 * EACH, "they are tried again"
            assert {server.status(f"{kind}-{number}") for kind in urls for number in range(EACH)} == {"submitted"}
            assert len(good.called()) == EACH, "nothing is undone that nobody refused"
            assert server.alive
            assert server.process.pid == pid
