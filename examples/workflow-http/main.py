"""A function that survives kill -9: a transfer as a workflow, with a decision in its middle (Flask, PostgreSQL).

Needs: postgres
Packages: flask, psycopg
"""

import os
import subprocess
import sys

from worker import transfer, transfers

from bank import balances, bank
from reefknot import Client, RolledBack
from reefknot.testing.server import free_port
from reefknot.testing.services import serving

database = os.environ["POSTGRES_URL"]
tm = Client()  # the server of $DTM_SERVER
port = free_port()


def start_worker(output=None):
    command = [sys.executable, "worker.py", str(port)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, text=True)


flows = transfers(port)
with serving(bank(database, {"alice": 100, "bob": 100})) as url, start_worker(subprocess.PIPE) as first:
    print("30 from Alice to Bob", balances(database))
    gid = flows.start(transfer, url, "alice", "bob", 30)  # stored; the server calls a worker
    print(first.stdout.readline(), end="")  # it reviews
    first.kill()
    print("   the worker is killed (SIGKILL)", balances(database))

    with start_worker():
        tm.wait(gid)
        # The same gid again: nothing is done, and here is what it returned.
        print("  ", flows.execution(gid).run(transfer, url, "alice", "bob", 30), balances(database))

        print("60 from Alice to Bob")
        try:
            # Here, not in the worker, which is called only if this program does nothing for 10 s.
            flows.execution(retry_every=10).run(transfer, url, "alice", "bob", 60)
        except RolledBack as error:
            print("   rolled back:", error.reason, balances(database))
    assert balances(database) == {"alice": 70, "bob": 130}
