"""Three nodes over one store; nodes are killed and stopped at random while clients are at work."""

import random
import signal
import threading
import time
from collections import Counter

import pytest

from chaos.load import Load
from reefknot.testing.databases.processes import freeze
from reefknot.testing.invariants import violations

pytestmark = [pytest.mark.crash, pytest.mark.slow]

#: A long run has the default.
LEASE_SECONDS = {"short": 3, "long": 8}
QUIET_SECONDS = 45.0


class NodeFaults:
    """Kills (and restarts) or stops (and continues) one of the nodes every 1 to 5 seconds.

    One node is always left alone: without any, nobody could take over.
    """

    def __init__(self, nodes, watch, seed, *, longest_pause, takeover_seconds):
        self._nodes = nodes
        self._takeover_seconds = takeover_seconds
        self._watch = watch
        self._rng = random.Random(f"faults {seed}")
        self._longest_pause = longest_pause
        self._down = set()
        self._threads = []
        self.kills = 0
        self.pauses = []

    def run(self, seconds):
        """Make faults for so long, then bring every node back."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(self._rng.uniform(1, 5), left))
            up = [node for node in self._nodes if node not in self._down]
            if len(up) > 1:
                node = self._rng.choice(up)
                fault = self._rng.choice((self._kill, self._pause))
                self._down.add(node)
                self._threads.append(threading.Thread(target=fault, args=(node, self._rng.random())))
                self._threads[-1].start()
        for thread in self._threads:
            thread.join()
        assert all(node.alive for node in self._nodes)

    def _kill(self, node, lot):
        pid = node.process.pid
        node.kill()
        self._watch.driver_died(pid, time.monotonic())
        self.kills += 1
        time.sleep(lot * 2)
        node.start()
        self._down.discard(node)

    def _pause(self, node, lot):
        seconds = 1 + lot * (self._longest_pause - 1)
        freeze([node.process.pid])
        started = time.time()
        if seconds > self._takeover_seconds:
            self._watch.driver_died(node.process.pid, time.monotonic())
        time.sleep(seconds)
        self.pauses.append((started, time.time()))
        node.process.send_signal(signal.SIGCONT)
        self._down.discard(node)


def look_around(load, seen, stop, seed):
    """Look at random transactions all the time, for the checker: what is settled stays settled."""
    rng = random.Random(f"looks {seed}")
    while not stop.wait(0.1):
        if load.acks and (found := load.look(rng.choice(load.acks).gid)):
            seen.append(found)


def wait_until_quiet(watch, seconds=QUIET_SECONDS):
    """Wait until every transaction is finished; how long that took."""
    started = time.monotonic()
    while watch.stats().unfinished:
        if time.monotonic() - started > seconds:
            stuck = [(one.gid, one.status, one.owner, one.due_ms, one.parked) for one in watch.unfinished()]
            pytest.fail(f"not finished {seconds:g} s after the last fault: {stuck}")
        time.sleep(0.1)
    return time.monotonic() - started


def test_nodes_are_killed_and_stopped_under_load(store, watch, start_nodes, seed, seconds):
    long = seconds >= 30
    lease = LEASE_SECONDS["long" if long else "short"]
    nodes = start_nodes(3, lease_seconds=lease)
    # The promise is lease + 2 s; the short run is part of a suite that keeps the machine busy by other means too.
    limit = lease + (2 if long else 4)
    faults = NodeFaults(nodes, watch, seed, longest_pause=min(20.0, seconds / 2), takeover_seconds=lease + 2)
    seen, stop_looking = [], threading.Event()
    with Load(nodes, seed, clients=48, lease_seconds=lease) as load:
        looking = threading.Thread(target=look_around, args=(load, seen, stop_looking, seed))
        looking.start()
        faults.run(seconds)
        load.stop()
        stop_looking.set()
        looking.join()
        quiet = wait_until_quiet(watch)
        long_pauses = [(start, end) for start, end in faults.pauses if end - start > lease * 7 / 8]
        history, late = load.history(seen, long_pauses)
    ended = Counter(one.status for one in history.final)
    slowest = max((took for _, took in watch.takeovers), default=0.0)
    print(
        f"{len(history.final)} transactions {dict(ended)}, {len(history.calls)} calls, {len(seen)} looks, "
        f"{faults.kills} kills, {len(faults.pauses)} pauses, {len(watch.takeovers)} takeovers, "
        f"slowest {slowest:.2f} s of {limit}, quiet after {quiet:.1f} s, {len(late)} calls of woken nodes"
    )
    assert load.wrong == []
    broken = violations(history)
    assert not broken, load.story(history, broken)
    assert {"succeed", "failed"} == set(ended)
    assert len(history.final) > seconds * 5
    assert slowest <= limit, sorted(watch.takeovers, key=lambda one: -one[1])[:5]
    assert watch.stats().due == 0
    assert getattr(store, "index_problems", list)() == []


@pytest.mark.parametrize("store", ["redis-cluster"], indirect=True)
def test_what_is_unfinished_is_in_the_index(store, watch, start_nodes, seed):
    """What every node left behind is found again. A database keeps its indexes itself; here scripts do."""
    nodes = start_nodes(2, lease_seconds=3)
    with Load(nodes, seed) as load:
        time.sleep(2)
        for node in nodes:
            node.kill()
        assert len(watch.unfinished()) > 0
        assert watch.forgotten() == []
        assert store.index_problems() == []
        for node in nodes:
            node.start()
        load.stop()
        wait_until_quiet(watch)
        history, _ = load.history()
    broken = violations(history)
    assert not broken, load.story(history, broken)
