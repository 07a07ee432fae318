"""Clients that start transactions of every mode on random nodes, and keep what they saw.

A client repeats every request that got no answer or 503, at any node, as an SDK would. What was
acknowledged, what participants were called with and what their business changed goes to the checker
of the invariants.
"""

import http.client
import json
import random
import secrets
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from chaos.transactions import KINDS
from crash.scenario import calls_of
from reefknot.testing.effects import Effects
from reefknot.testing.history import Ack, History, stored
from reefknot.testing.participant import FAILURE, OK, ONGOING, Participant, Say

#: How long a client goes on repeating one request.
PERSISTENCE_SECONDS = 90.0
#: No answer, or no connection.
SILENCE = 0


class Answer(NamedTuple):
    """One answer to a client, or its absence. Times are on the wall clock."""

    gid: str
    verb: str
    started: float
    seconds: float
    status: int
    text: str
    repeated: bool

    @property
    def ended(self):
        return self.started + self.seconds


class Load:
    """Transactions at a steady rate; use it as a context manager.

    Args:
        nodes: the servers to ask.
        seed: of everything that is chosen here.
        rate: transactions a second that are started, if clients are free.
        clients: how many transactions are under way at most.
        patience_seconds: how long a client waits for one answer.
        lease_seconds: as the nodes have it, for the checker.
    """

    def __init__(self, nodes, seed, *, rate=50.0, clients=24, patience_seconds=3.0, lease_seconds=3.0):
        self.nodes = nodes
        self.effects = Effects()
        self.participant = Participant()
        self.answers, self.acks, self.wrong = [], [], []
        self._rng = random.Random(f"load {seed}")
        #: Part of every gid: several loads may use one store.
        self._name = secrets.token_hex(4)
        self._pause = 1 / rate
        self._clients = clients
        self._patience = patience_seconds
        self._lease_ms = lease_seconds * 1000
        self._lock = threading.Lock()
        self._local = threading.local()
        self._stop = threading.Event()
        self._number = 0
        self._due = 0.0
        self._asked_before = set()
        self._connections = []
        self._threads = []

    def __enter__(self):
        participant = self.participant
        participant.business(self._business)
        participant.always("/refuse", FAILURE)
        participant.on("/slow", lambda call: Say(seconds=random.Random(call.gid).uniform(0.2, 1.2)))
        participant.on("/ongoing", self._ongoing_once)
        participant.__enter__()
        self._due = time.monotonic()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(self._clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.participant.__exit__(None, None, None)
        for connection in self._connections:
            connection.close()

    def stop(self):
        """Start nothing new, and wait until every client has ended its transaction."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PERSISTENCE_SECONDS + self._patience)
            assert not thread.is_alive(), "a client hangs"

    def choose(self, choices):
        """One of them, by the seed."""
        with self._lock:
            return self._rng.choice(choices)

    def url(self, path):
        return self.participant.url(path)

    # --- clients ----------------------------------------------------------------------------------

    def _client(self):
        while (number := self._next()) is not None:
            kind = sorted(KINDS)[number % len(KINDS)]
            KINDS[kind](self, f"{kind}-{number}-{self._name}")

    def _next(self):
        """The number of the next transaction when its time has come; None when the load stops."""
        with self._lock:
            number, due = self._number, max(self._due, time.monotonic() - 1)
            self._number += 1
            self._due = due + self._pause
        return None if self._stop.wait(max(due - time.monotonic(), 0)) else number

    def ask(self, gid, verb, fields, *, ends="", rows=(), also=(), again=()):
        """Send a request until a node answers it.

        Args:
            also: refusals that may come at any time.
            again: refusals that may come to a repetition, whose first try had been done after all.

        Returns:
            The status.
        """
        until = time.monotonic() + PERSISTENCE_SECONDS
        repeated = False
        while time.monotonic() < until:
            answer = self._send(gid, verb, fields, repeated)
            if answer.status in (SILENCE, 503):
                repeated = True
                time.sleep(0.1)
                continue
            if answer.status == 200:
                self.acks.append(Ack(verb, gid, ends, rows))
            elif answer.status not in also and not (repeated and answer.status in again):
                self.wrong.append(f"{gid}: {verb} was answered {answer.status} {answer.text}")
            return answer.status
        self.wrong.append(f"{gid}: {verb} was not answered within {PERSISTENCE_SECONDS:g} s")
        return SILENCE

    def _send(self, gid, verb, fields, repeated):
        node = self.choose(self.nodes)
        started = time.time()
        try:
            status, text = self._exchange(node, f"/api/dtmsvr/{verb}", json.dumps({"gid": gid, **fields}))
        except (OSError, http.client.HTTPException) as error:
            status, text = SILENCE, repr(error)
        answer = Answer(gid, verb, started, time.time() - started, status, text, repeated)
        self.answers.append(answer)
        return answer

    def _exchange(self, node, path, body=None):
        """One exchange on this thread's connection to a node."""
        mine = self._local.__dict__
        if (connection := mine.get(str(id(node)))) is None:
            connection = http.client.HTTPConnection(node._host, node._port, timeout=self._patience)
            mine[str(id(node))] = connection
            self._connections.append(connection)
        try:
            connection.request("POST" if body else "GET", path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise

    # --- participants -----------------------------------------------------------------------------

    def _ongoing_once(self, call):
        with self._lock:
            first = call.gid not in self._asked_before
            self._asked_before.add(call.gid)
        return ONGOING if first else OK

    def _business(self, call):
        if call.path == "/workflow":
            KINDS["workflow"](self, call.gid, resumed=True)
        elif call.op != "msg":
            self.effects.apply(call.gid, call.branch_id, call.op)

    # --- what is known afterwards -----------------------------------------------------------------

    def look(self, gid):
        """The transaction as a node shows it now; None if there is none."""
        until = time.monotonic() + PERSISTENCE_SECONDS
        while time.monotonic() < until:
            with suppress(OSError, http.client.HTTPException):
                status, text = self._exchange(self.choose(self.nodes), f"/api/dtmsvr/query?gid={gid}")
                if status == 200:
                    return stored(json.loads(text))
            time.sleep(0.05)
        raise AssertionError(f"no node shows {gid}")

    def history(self, seen=(), pauses=()):
        """Everything for the checker, and the late calls that were left out.

        A node that is stopped between the check of its deadline and the system call that sends a
        request sends it when it goes on, maybe after its lease: nothing on its side can prevent that
        (P5). Such a call repeats one that the next driver made meanwhile.

        Args:
            seen: looks at transactions during the run.
            pauses: (start, end) on the wall clock of every stop that was longer than a lease.
        """
        calls = calls_of(self.participant)
        kept, late = [], []
        for call in calls:
            woken = any(0 <= call.started_ms - end * 1000 < 1_000 for _, end in pauses)
            repeats = woken and any(_settles(other, call) for other in calls if other is not call)
            (late if repeats else kept).append(call)
        gids = sorted({ack.gid for ack in self.acks} | {call.gid for call in calls})
        final = tuple(found for gid in gids if (found := self.look(gid)))
        history = History(
            acks=tuple(self.acks),
            calls=tuple(kept),
            final=final,
            effects=self.effects.all,
            seen=tuple(seen),
            request_timeout_ms=2_000,
            lease_ms=self._lease_ms,
            slack_ms=250,
        )
        return history, late

    def story(self, history, broken):
        """Everything known about the transactions that the violations name, in order of time."""
        lines = []
        for gid in dict.fromkeys(sentence.split()[1].rstrip(":") for sentence in broken[:3]):
            found = [(one.started, str(one)) for one in self.answers if one.gid == gid]
            found += [(one.started_ms / 1000, str(one)) for one in history.calls if one.gid == gid]
            found += [(one.at_ms / 1000, str(one)) for one in self.effects.all if one.gid == gid]
            lines += [f"{at:.3f} {text}" for at, text in sorted(found)]
            lines += [str(one) for one in history.final if one.gid == gid]
        return "\n".join((*broken, *lines))


def _settles(other, call):
    """Whether the other call came earlier, is of the same operation and had a definite answer."""
    same = (other.gid, other.branch_id, other.op) == (call.gid, call.branch_id, call.op)
    return same and 0 < other.ended_ms <= call.started_ms and other.result in ("success", "failure")
