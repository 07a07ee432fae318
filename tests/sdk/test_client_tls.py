"""A server behind TLS: nothing is sent to one that nobody vouches for; a transport brings an authority of one's own."""

import asyncio
import contextlib
import http.server
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme
import urllib3
from aiohttp import ClientSession, TCPConnector

from reefknot import AsyncClient, Client, ServerUnavailable
from reefknot.client.exchange import Request
from reefknot.client.transports.aiohttp import AiohttpTransport
from reefknot.client.transports.grpc import GrpcTransport
from reefknot.client.transports.grpc_aio import AsyncGrpcTransport
from reefknot.client.transports.urllib3 import Urllib3Transport
from sdk.client_faces import FACES, open_client

GID = b'{"dtm_result":"SUCCESS","gid":"abc"}'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(GID)))
        self.end_headers()
        self.wfile.write(GID)

    def log_message(self, *_):
        """Say nothing."""


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that does not trust us hangs up."""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def url(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("face", FACES)
def test_certificate_that_is_not_trusted_sends_nothing(face, url):
    with open_client(face, url) as client:
        saga = client.saga()
        saga.step("http://bank/out")
        with pytest.raises(ServerUnavailable, match=r"nothing was sent.*ertificate"):
            saga.submit()


def test_own_authority(url, trusting):
    with Client(url, transport=Urllib3Transport(urllib3.PoolManager(ssl_context=trusting))) as client:
        assert client.new_gid() == "abc"

    async def asked():
        async with ClientSession(connector=TCPConnector(ssl=trusting)) as session:
            async with AsyncClient(url, transport=AiohttpTransport(session)) as client:
                gid = await client.new_gid()
            assert not session.closed
            return gid

    assert asyncio.run(asked()) == "abc"


@pytest.fixture
def grpc_url(authority):
    certificate = authority.issue_cert("127.0.0.1")
    pair = (certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())
    with contextlib.ExitStack() as stack:
        server = grpc.server(stack.enter_context(ThreadPoolExecutor(2)))
        answer = grpc.unary_unary_rpc_method_handler(lambda body, _: body + b"!")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", {"C": answer}),))
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        server.start()
        stack.callback(lambda: server.stop(None).wait())
        yield f"grpcs://127.0.0.1:{port}"


def test_grpc_over_tls(grpc_url, authority):
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    request = Request("GRPC", f"{grpc_url}/a.B/C", {"X-Name": "v"}, b"hello", 5.0)
    transport = GrpcTransport(trusted)
    assert transport.send(request).body == b"hello!"
    transport.close()

    async def asked():
        transport = AsyncGrpcTransport(trusted)
        answer = await transport.send(request)
        await transport.close()
        return answer.body

    assert asyncio.run(asked()) == b"hello!"
    with Client(grpc_url, timeout=5) as client, pytest.raises(ServerUnavailable, match="nothing was sent"):
        client.tcc().__enter__()
