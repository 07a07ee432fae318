"""One bank as a process of its own: branches, the answer to the server's question, and its teller.

Run by the test, which kills it: ``python service.py SETTINGS`` with the settings as JSON. It ends with its
standard input, so that nothing is left behind when the test itself is killed.
"""

import json
import logging
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from bank.accounts import KINDS
from bank.teller import Teller
from reefknot import Client, Failure, Ongoing


class Bank(ThreadingHTTPServer):
    """Serves ``/out`` and ``/in`` (branches), ``/ask``, ``/workflow`` and ``/transfer`` (its customers)."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, settings):
        self.client = Client(settings["server"], timeout=5)
        self.accounts = KINDS[settings["kind"]](settings["database"], guarded=settings["guarded"])
        self.teller = Teller(self.client, self.accounts, settings["banks"], settings["own"])
        super().__init__(("127.0.0.1", settings["port"]), Handler)

    def answer(self, path, query, body):
        """The status and the text of an answer."""
        try:
            return self._answered(path, query, body)
        except Failure as error:
            return 409, error.reason
        except Ongoing as error:
            return 425, error.note
        except Exception as error:  # noqa: BLE001 - as a framework does
            logging.getLogger(__name__).warning("%s %s: %s: %s", path, query, type(error).__name__, error)
            return 500, f"{type(error).__name__}: {error}"

    def _answered(self, path, query, body):
        if path in ("/out", "/in"):
            self.accounts.serve(path[1:], query, json.loads(body or b"{}"), self.client)
        elif path == "/ask":
            self.accounts.asked(query)
        elif path == "/workflow":
            answer = self.teller.workflows.handle(query, body)
            return answer.status, answer.body.decode()
        elif path == "/transfer":
            return 200, json.dumps(self.teller.transfer(**json.loads(body)))
        elif path != "/ping":
            return 404, "no such path"
        return 200, "{}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self._serve()

    def do_POST(self):
        self._serve()

    def _serve(self):
        split = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, text = self.server.answer(split.path, dict(parse_qsl(split.query)), body)
        content = text.encode()
        head = f"HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        self.wfile.write(head.encode() + content)

    def log_message(self, *_):
        """Say nothing: the test sees every call."""


def end_with_the_test():
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_test, daemon=True).start()
    Bank(json.loads(sys.argv[1])).serve_forever(0.1)
