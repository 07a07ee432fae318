"""A client that was used before its process forked, as under ``gunicorn --preload`` and in Celery's workers."""

import http.server
import subprocess
import sys
import threading

import pytest

from reefknot.testing.server import LocalServer

#: Sends in the parent, in two children one after the other, and in the parent again; each child closes the client.
FORKING = """
import asyncio, os, sys
from reefknot import AsyncClient, Client

face, url = sys.argv[1:]

class Sync:
    def __init__(self):
        self.client = Client(url, timeout=20)
    def send(self, gid):
        self.client.msg(gid).send("http://bank/in").submit()
    def close(self):
        self.client.close()

class Async(Sync):
    def __init__(self):
        self.client = AsyncClient(url, timeout=20)
        self.loop = asyncio.new_event_loop()
    def send(self, gid):
        self.loop.run_until_complete(self.client.msg(gid).send("http://bank/in").submit())
    def close(self):
        self.loop.run_until_complete(self.client.close())

class Given(Sync):
    def __init__(self):
        import urllib3
        from reefknot.client.transports.urllib3 import Urllib3Transport
        self.client = Client(url, timeout=20, transport=Urllib3Transport(urllib3.PoolManager()))

class Compat(Sync):
    def __init__(self):
        from reefknot.compat.dtmcli.servers import client_of
        self.client = client_of(url)

used = {"sync": Sync, "async": Async, "given": Given, "compat": Compat}[face]()
used.send("before")
for child in ("first", "second"):
    if (pid := os.fork()) == 0:
        try:
            used.send(child)
            used.send(child + " again")
            used.close()
        except BaseException as error:
            sys.stderr.write(f"{child}: {error!r}")
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
used.send("after")
"""

GRPC = """
import asyncio, os, sys
from reefknot import AsyncClient, Client, ServerUnavailable

face, url = sys.argv[1:]
if face == "sync":
    client = Client(url)
    now = lambda result: result
else:
    client = AsyncClient(url)
    now = asyncio.new_event_loop().run_until_complete
now(client.new_gid())
if (pid := os.fork()) == 0:
    try:
        now(client.new_gid())
    except ServerUnavailable as error:
        os._exit(0 if "before the process forked" in str(error) else 2)
    except BaseException as error:
        sys.stderr.write(repr(error))
        os._exit(3)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
now(client.new_gid())
now(client.close())
"""


def run(script, *arguments):
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, timeout=120)


@pytest.fixture
def ports():
    """The client's port of each request, by what the request says; and the URL where that is seen."""
    seen = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen[body.split(b'"gid":"')[1].split(b'"')[0].decode()] = self.client_address[1]
            answer = b'{"dtm_result":"SUCCESS"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_): ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api/dtmsvr", seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("face", ["sync", "async", "given", "compat"])
def test_a_forked_process_has_connections_of_its_own(ports, face):
    url, seen = ports
    run(FORKING, face, url)
    assert len({seen[name] for name in ("before", "first", "second")}) == 3
    # Each keeps its own; what the children close is not the parent's.
    assert [seen[f"{name} again"] for name in ("first", "second")] == [seen[name] for name in ("first", "second")]
    assert seen["after"] == seen["before"]


@pytest.mark.parametrize("face", ["sync", "async"])
def test_grpc_that_was_used_before_a_fork_says_so(face):
    with LocalServer(grpc=True) as server:
        run(GRPC, face, f"grpc://{server.grpc_address}")
