"""A program with workflows: the server calls it back, and its bank is a service of the test kit."""

import asyncio
import contextlib
import inspect
import secrets
import threading
import time

from reefknot import AsyncClient, Client
from reefknot.testing.participant import Participant, Say
from reefknot.workflows import AsyncWorkflows, Workflows

CALLBACK = "/workflow"


def new_gid():
    return f"wf-{secrets.token_hex(6)}"


class Program:
    """One process of an application, over HTTP: what it runs, and the callback that resumes it.

    Args:
        server: of the test kit.
        functions: the workflows, all plain or all asynchronous.
        url: where the server is spoken to.
    """

    def __init__(self, server, functions, url="", **options):
        self.server = server
        self.bank = Participant()
        self.asynchronous = any(inspect.iscoroutinefunction(type(function).__call__) for function in functions)
        kind, flows = (AsyncClient, AsyncWorkflows) if self.asynchronous else (Client, Workflows)
        self.client = kind(url or server.url, transport=options.pop("transport", None))
        self.callback = options.pop("callback", "") or self.bank.url(CALLBACK)
        self.flows = flows(self.client, functions, callback=self.callback, **options)
        self._answers = []
        self._one_loop = threading.Lock()
        self.bank.on(CALLBACK, self._resumed)

    def __enter__(self):
        self.bank.__enter__()
        return self

    def __exit__(self, *error):
        self.now(self.client.close)
        self.bank.__exit__(*error)

    def now(self, function, *args, **kwargs):
        """Call it, in a loop of its own if it is asynchronous."""
        if not self.asynchronous:
            return function(*args, **kwargs)

        async def called():
            try:
                return await function(*args, **kwargs)
            finally:
                await self.client.close()

        # The server may be content before the callback has closed the client, which serves one loop at a time.
        with self._one_loop:
            return asyncio.run(called())

    def run(self, gid, function, *args, **kwargs):
        return self.now(self.flows.execution(gid).run, function, *args, **kwargs)

    def start(self, gid, function, *args, **kwargs):
        return self.now(self.flows.execution(gid).start, function, *args, **kwargs)

    def handle(self, query, body):
        return self.now(self.flows.handle, query, body)

    def cron(self):
        """One round of the server's recovery, as if the time had come."""
        return self.server.cron(look_ahead=1000)

    def url(self, path):
        return self.bank.url(path)

    def called(self, gid):
        """The operations that the bank was called with, without the callback's."""
        return [(call.path, call.op) for call in self.bank.calls if call.gid == gid and call.path != CALLBACK]

    def answers(self, count):
        """The first answers of the callback; the server may be content before they are given."""
        until = time.monotonic() + 10
        while len(self._answers) < count and time.monotonic() < until:
            time.sleep(0.01)
        return self._answers

    def state(self, gid):
        return self.server.status(gid)

    def rows(self, gid, *ops):
        """Branch id, operation and status of the recorded rows, or of those with these operations."""
        found = self.server.get("query", gid=gid).json()["branches"]
        return [
            (row["branch_id"], row["op"], row["status"]) for row in found if row["op"] in ops or (not ops and row["op"])
        ]

    def _resumed(self, call):
        query = {"gid": call.gid, "op": call.op, "branch_id": call.branch_id, "trans_type": call.mode}
        answer = self.handle(query, call.body)
        self._answers.append(answer)
        return Say(answer.status, answer.body)


@contextlib.contextmanager
def raising(kind):
    """The error of this kind that the block raises, in a list."""
    found = []
    try:
        yield found
    except kind as error:
        found.append(error)
    assert found, f"no {kind.__name__} was raised"
