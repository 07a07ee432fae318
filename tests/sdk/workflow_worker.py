"""A program with one workflow, as a process to be killed: python workflow_worker.py SERVER PORT BANK GID DIE_AT

It serves the callback at PORT. With a GID it also runs the workflow, and kills itself with SIGKILL at the
place that DIE_AT names.
"""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from reefknot import Client, Workflow, Workflows, workflow

PLACES = ("before the first step", "between the steps", "in the local step", "in phase two")


def main(server, port, bank, gid, die_at):
    def die(place):
        if place == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def confirm():
        die("in phase two")

    @workflow("transfer")
    def transfer(w: Workflow, amount: int) -> str:
        die("before the first step")
        w.call(f"{bank}/out", {"amount": amount}, undo=f"{bank}/out/undo", commit=f"{bank}/out/take")
        die("between the steps")
        note = w.do(lambda: die("in the local step") or f"{amount} noted", commit=confirm)
        w.call(f"{bank}/in", {"amount": amount}, undo=f"{bank}/in/undo", commit=f"{bank}/in/take")
        return note

    flows = Workflows(Client(server), [transfer], callback=f"http://127.0.0.1:{port}/workflow")

    class Callback(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = flows.handle(dict(parse_qsl(urlsplit(self.path).query)), body)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_):
            pass

    service = ThreadingHTTPServer(("127.0.0.1", int(port)), Callback)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    if gid:
        sys.stdout.write(flows.execution(gid).run(transfer, 30) + "\n")
    sys.stdin.read()  # until the test closes it


if __name__ == "__main__":
    main(*sys.argv[1:])
