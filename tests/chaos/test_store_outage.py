"""The store is killed, cut off and frozen while clients are at work; no node is ever restarted."""

import random
import time
from typing import NamedTuple

import pytest

from chaos.load import SILENCE, Load
from chaos.test_nodes import wait_until_quiet
from reefknot.testing.invariants import violations

pytestmark = [pytest.mark.crash, pytest.mark.slow]

NORMAL_SECONDS = 5.0
#: A command waits 5 s for the store at most, and a new connection as long.
LONGEST_ANSWER_SECONDS = 12.0
#: The same when all is well, on a busy machine.
NORMAL_ANSWER_SECONDS = 2.0
HANG_UPS = 4


class Outage(NamedTuple):
    """What was done to the store, and from when to when; on the wall clock."""

    fault: str
    start: float
    end: float


class StoreFaults:
    """Faults of the store, one after the other, with time to come back in between."""

    def __init__(self, store, seed):
        self._store = store
        self._rng = random.Random(f"store {seed}")
        self.outages = []

    def kill_and_restart(self, seconds):
        """SIGKILL every 2 to 15 seconds; the store is away for up to 2 seconds."""
        until = time.monotonic() + seconds
        while True:
            time.sleep(self._rng.uniform(2, min(15.0, seconds / 3)))
            if time.monotonic() > until:
                return
            self._during("kill", self._kill)

    def hang_up(self):
        """Close every connection, several times."""
        for _ in range(HANG_UPS):
            time.sleep(self._rng.uniform(0.3, 1.0))
            self._during("hang-up", self._store.hang_up)

    def freeze(self, seconds, look):
        """SIGSTOP for so long; ``look`` is called meanwhile."""
        self._during("freeze", lambda: self._freeze(seconds, look))

    def _kill(self):
        servers = getattr(self._store, "servers", [self._store.server])
        for server in servers:
            server.kill()
        time.sleep(self._rng.uniform(0, 2))
        for server in servers:
            server.start()

    def _freeze(self, seconds, look):
        self._store.server.freeze()
        started = time.monotonic()
        try:
            look()
            time.sleep(max(seconds - (time.monotonic() - started), 0))
        finally:
            self._store.server.thaw()

    def _during(self, fault, act):
        start = time.time()
        act()
        self.outages.append(Outage(fault, start, time.time()))


def untimely(answers, outages):
    """Refusals that belong to no outage, or come too long after its end."""
    return [
        answer
        for answer in answers
        if answer.status == 503 and not any(one.start <= answer.ended <= one.end + NORMAL_SECONDS for one in outages)
    ]


def recovery(answers, outage):
    """Seconds from the end of an outage until a client had a success; infinite if there was none."""
    successes = (answer.ended - outage.end for answer in answers if answer.status == 200)
    return min((seconds for seconds in successes if seconds > 0), default=float("inf"))


def scrape(node):
    """What a node counts, and how long it took to say so."""
    started = time.monotonic()
    answer = node.send("GET", "/api/metrics")
    assert answer.status == 200
    return answer.body.decode(), time.monotonic() - started


def test_everything_acknowledged_survives_the_outages_of_its_store(store, watch, start_nodes, seed, seconds):
    nodes = start_nodes(2)
    pids = [node.process.pid for node in nodes]
    faults = StoreFaults(store, seed)
    with Load(nodes, seed, clients=32, patience_seconds=20.0, lease_seconds=8.0) as load:
        time.sleep(1)
        faults.kill_and_restart(seconds if seconds >= 30 else seconds / 2)
        faults.hang_up()
        time.sleep(1)
        frozen = []
        faults.freeze(10.0 if seconds >= 30 else 6.0, lambda: frozen.append(scrape(nodes[0])))
        time.sleep(NORMAL_SECONDS)
        calm_since = time.time()
        time.sleep(2)
        load.stop()
        quiet = wait_until_quiet(watch)
        history, _ = load.history()
    refused = [answer for answer in load.answers if answer.status == 503]
    slowest = max(answer.seconds for answer in load.answers)
    calm = [answer.seconds for answer in load.answers if answer.started > calm_since]
    recoveries = [(one.fault, round(recovery(load.answers, one), 2)) for one in faults.outages]
    print(
        f"{len(history.final)} transactions, {len(load.answers)} answers, {len(refused)} of them 503, "
        f"first success after {recoveries} s, slowest answer {slowest:.1f} s, "
        f"afterwards {max(calm):.2f} s, quiet after {quiet:.1f} s"
    )
    assert load.wrong == []
    assert [answer for answer in load.answers if answer.status == SILENCE] == []
    assert {one.fault for one in faults.outages} == {"kill", "hang-up", "freeze"}
    assert len(refused) > 0
    where = f"127.0.0.1:{store.server.port}" if hasattr(store.server, "port") else "127.0.0.1"
    assert [answer for answer in refused if where not in answer.text] == [], "every refusal names the store"
    assert untimely(load.answers, faults.outages) == []
    assert max(recovery(load.answers, one) for one in faults.outages) <= NORMAL_SECONDS
    assert slowest <= LONGEST_ANSWER_SECONDS
    assert max(calm) < NORMAL_ANSWER_SECONDS
    (text, took), (later, _) = frozen[0], scrape(nodes[0])
    assert took < LONGEST_ANSWER_SECONDS
    assert "reefknot_store_up 0.0" in text
    assert "dtm_server_process_total{" in text
    assert "reefknot_store_up 1.0" in later
    broken = violations(history)
    assert not broken, load.story(history, broken)
    assert [node.process.pid for node in nodes if node.alive] == pids
    assert watch.stats().due == 0
    assert getattr(store, "index_problems", list)() == []
