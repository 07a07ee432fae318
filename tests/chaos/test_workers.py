"""``reefknot serve --workers 2``: two nodes of one machine behind one port."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from chaos.conftest import SETTINGS
from chaos.test_nodes import wait_until_quiet
from chaos.watch import driver
from reefknot.testing.databases.processes import family
from reefknot.testing.participant import OK, Participant, Say
from reefknot.testing.server import PATIENCE_SECONDS, ServerProcess

pytestmark = [pytest.mark.crash, pytest.mark.slow]

LEASE_SECONDS = 8
SAGAS = 24


def until(holds, what):
    """Wait until something holds, and return it."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < limit, what
        time.sleep(0.05)
    return found


class WorkersProcess(ServerProcess):
    """The parent of two workers; what it starts is gone when the test ends."""

    @property
    def workers(self):
        return set(family(self.process.pid)[1:])

    def kill(self, signum=signal.SIGKILL):
        left = self.workers if self.alive else set()
        super().kill(signum)
        if signum == signal.SIGKILL:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signum)


@pytest.fixture
def server(store, tmp_path):
    environment = {**SETTINGS, "REEFKNOT_WORKERS": "2", "REEFKNOT_LEASE_SECONDS": str(LEASE_SECONDS)}
    environment |= {"REEFKNOT_REQUEST_TIMEOUT": "10", "REEFKNOT_SHUTDOWN_TIMEOUT": "1", "REEFKNOT_LOG_LEVEL": "info"}
    with WorkersProcess(store.server.url, environment=environment, log=tmp_path / "workers.log") as server:
        until(lambda: len(serving(server)) == 2, "both workers listen")
        yield server


@pytest.fixture
def participant():
    with Participant() as participant:
        yield participant


def serving(server):
    """The workers that say in the log that they serve; the process is part of a node's name."""
    return {int(pid) for pid in re.findall(r'serving.*owner\W+[^:"]+:(\d+):', server.log_text())}


def submit(server, participant, name):
    """Sagas that wait for a participant; each on a connection of its own."""
    step = {"action": participant.url("/slow"), "compensate": participant.url("/undo")}
    for number in range(SAGAS):
        gid = f"{name}-{number}"
        fields = {"gid": gid, "trans_type": "saga", "steps": [step], "payloads": ["{}"]}
        assert server.post("submit", fields).status == 200


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_workers_share_a_port_and_a_dead_one_is_replaced(store, watch, server, participant):
    participant.always("/slow", Say(seconds=4))
    submit(server, participant, "both")
    first = {driver(record) for record in watch.unfinished()}
    assert first == server.workers == serving(server)
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    replaced = until(lambda: len(server.workers) == 2 and victim not in server.workers and server.workers, "replaced")
    until(lambda: replaced <= serving(server), "the new worker listens")
    participant.always("/slow", Say(seconds=2))
    submit(server, participant, "again")
    assert {driver(record) for record in watch.unfinished() if record.gid.startswith("again")} == replaced
    wait_until_quiet(watch, LEASE_SECONDS + 15)


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_sigterm_stops_every_worker_and_releases_what_they_drove(store, watch, server, participant):
    participant.always("/slow", Say(seconds=8))
    submit(server, participant, "released")
    workers = server.workers
    assert {driver(record) for record in watch.unfinished()} == workers
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 1 + 3
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    held = [record.gid for record in watch.unfinished() if record.owner]
    assert held == [], "released, although the leases had not ended"
    assert len(watch.unfinished()) == SAGAS
    with pytest.raises((OSError, http.client.HTTPException)):
        server.send("GET", "/api/ping")
    participant.always("/slow", OK)
    server.start()
    assert wait_until_quiet(watch, 15) < LEASE_SECONDS / 2


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{directory}/own.db"])
def test_a_store_of_one_process_refuses_workers(url, tmp_path):
    command = [sys.executable, "-m", "reefknot", "serve", "--store", url.format(directory=tmp_path)]
    done = subprocess.run(
        [*command, "--workers", "2", "--http-port", "0"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "Workers: " in done.stderr
    assert "belongs to one process; use 1, or a database server" in done.stderr
    assert "Traceback" not in done.stderr
