"""The transfers, and the worker that does them: python worker.py PORT"""

import sys
import time

from flask import Flask

from reefknot import Client, Failure, Workflow, Workflows, workflow
from reefknot.contrib.flask import workflows
from reefknot.testing.services import serving


def review(amount):
    """Decides, and takes its time."""
    print(f"   worker  reviews {amount} ...", flush=True)
    time.sleep(1)
    return "fine" if amount < 50 else "too much"


@workflow("transfer")
def transfer(w: Workflow, bank: str, giver: str, taker: str, amount: int) -> str:
    out = {"account": giver, "amount": amount}
    w.call(f"{bank}/out", out, undo=f"{bank}/out/undo")
    verdict = w.do(lambda: review(amount), name="review")
    if verdict != "fine":
        raise Failure(f"{amount} from {giver} to {taker} is {verdict}")  # everything so far is undone
    w.call(f"{bank}/in", {"account": taker, "amount": amount}, undo=f"{bank}/in/undo")
    return f"{taker} has {amount} from {giver}"


def transfers(port):
    """For whoever starts a transfer, and for the worker: the server resumes them at the callback."""
    return Workflows(Client(), [transfer], callback=f"http://127.0.0.1:{port}/workflow")


if __name__ == "__main__":
    port = int(sys.argv[1])
    app = Flask(__name__)
    app.register_blueprint(workflows(transfers(port)))  # POST /workflow
    with serving(app, port):
        sys.stdin.read()  # until the program that started it is gone
