"""A server that plays one side of a written exchange and compares the other side strictly."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class Expected:
    """One request as it must come, and its answer.

    Args:
        method: the HTTP method.
        path: without the query.
        query: every parameter, decoded.
        body: the body: an object stands for its JSON, bytes for themselves.
        headers: headers that must be there with these values; a value of None must not be there.
        status: of the answer.
        answer: body of the answer, as ``body``.
    """

    def __init__(self, method, path, query=None, body=b"", headers=None, *, status=200, answer=b""):
        self.method, self.path, self.query = method, path, query or {}
        self.body, self.headers = body, headers or {}
        self.status = status
        self.answer = answer if isinstance(answer, bytes) else json.dumps(answer).encode()


class Replay:
    """Expects requests in this order, one exchange each; leaving it asserts that all of them came.

    Args:
        exchanges: what must come.
    """

    def __init__(self, *exchanges):
        self._left = list(exchanges)
        self._problems = []
        replay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, text = replay._compare(self, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - as the base class has them

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._server.shutdown()
        self._server.server_close()
        assert self._problems == []
        assert [(one.method, one.path) for one in self._left] == [], "these requests did not come"

    def _compare(self, request, body):
        url = urlsplit(request.path)
        query = parse_qsl(url.query, keep_blank_values=True)
        if not self._left:
            self._problems.append(f"{request.command} {request.path} was not expected")
            return 599, b"not expected"
        one = self._left.pop(0)
        got_body = body if isinstance(one.body, bytes) else json.loads(body or b"null")
        got = (request.command, url.path, sorted(query), got_body)
        expected = (one.method, one.path, sorted(one.query.items()), one.body)
        if got != expected:
            self._problems.append(f"expected {expected}, got {got}")
        for name, value in one.headers.items():
            if request.headers.get(name) != value:
                self._problems.append(f"{request.path}: header {name} is {request.headers.get(name)!r}, not {value!r}")
        return one.status, one.answer
