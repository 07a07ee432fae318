"""SIGTERM in the middle of work: a clean exit in time, nothing lost, and the next start goes on at once."""

import contextlib
import signal
import sqlite3
import time

import pytest

from crash.scenario import QUICK, calls_of
from reefknot.testing.history import Ack, History, stored
from reefknot.testing.invariants import violations
from reefknot.testing.participant import FAILURE, Participant, Say
from reefknot.testing.server import ServerProcess

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SAGAS = 50


class Stopped:
    """A server that was told to stop while every saga waits for its first participant."""

    def __init__(self, directory, participant, *, shutdown_seconds, request_seconds, second="/quick"):
        self.path = directory / "server.db"
        self.participant = participant
        environment = {
            **QUICK,
            "REEFKNOT_SHUTDOWN_TIMEOUT": str(shutdown_seconds),
            "REEFKNOT_REQUEST_TIMEOUT": str(request_seconds),
            "REEFKNOT_LEASE_SECONDS": "30",
        }
        self.request_ms = request_seconds * 1000
        self.server = ServerProcess(f"sqlite:///{self.path}", environment=environment, log=directory / "server.log")
        self.gids = [f"saga-{number}" for number in range(SAGAS)]
        self.server.start()
        for gid in self.gids:
            urls = [(participant.url(path), participant.url("/undo")) for path in ("/slow", second)]
            steps = [{"action": action, "compensate": undo} for action, undo in urls]
            submit = {"gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["{}", "{}"]}
            assert self.server.post("submit", submit).status == 200
        until = time.monotonic() + 10
        while len(participant.calls) < SAGAS and time.monotonic() < until:
            time.sleep(0.01)
        assert {call.ended for call in participant.calls} == {0.0}
        started = time.monotonic()
        self.exit_code = self.server.stop()
        self.seconds = time.monotonic() - started

    def held(self):
        """Transactions that still have an owner, from the file itself."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("SELECT count(*) FROM tx WHERE owner <> ''").fetchone()[0]

    def go_on(self, status):
        """Start again; seconds until every saga has ended."""
        self.server.start()
        started = time.monotonic()
        for gid in self.gids:
            assert self.server.wait_for(gid, "succeed", "failed") == status
        return time.monotonic() - started

    def violations(self):
        return violations(
            History(
                acks=tuple(Ack("submit", gid) for gid in self.gids),
                calls=calls_of(self.participant),
                final=tuple(stored(self.server.get("query", gid=gid).json()) for gid in self.gids),
                request_timeout_ms=self.request_ms,
                slack_ms=150,
            )
        )


@pytest.fixture
def participant():
    with Participant() as participant:
        yield participant


@pytest.fixture
def stopped(tmp_path, participant):
    with contextlib.ExitStack() as cleanup:

        def start(**settings):
            run = Stopped(tmp_path, participant, **settings)
            cleanup.callback(run.server.kill, signal.SIGKILL)
            return run

        yield start


def test_what_ends_in_time_is_finished_before_the_exit(participant, stopped):
    participant.always("/slow", Say(seconds=1.0))
    run = stopped(shutdown_seconds=5, request_seconds=3)
    assert run.exit_code == 0
    assert run.seconds < 5 + 2
    assert run.held() == 0
    assert len(participant.called()) == 2 * SAGAS
    run.go_on("succeed")
    assert len(participant.called()) == 2 * SAGAS, "everything had ended before the exit"
    assert run.violations() == ()


def test_what_does_not_end_in_time_is_released(participant, stopped):
    participant.script("/slow", [Say(seconds=4.0)] * SAGAS)
    run = stopped(shutdown_seconds=1, request_seconds=8)
    assert run.exit_code == 0
    assert run.seconds < 1 + 2
    assert run.held() == 0
    assert run.go_on("succeed") < 3, "released leases are taken over at once, not after 30 s"
    assert run.violations() == ()


def test_calls_that_were_cut_off_are_not_compensated_while_they_may_run(participant, stopped):
    participant.script("/slow", [Say(seconds=3.0)] * SAGAS)
    participant.always("/refuse", FAILURE)
    run = stopped(shutdown_seconds=1, request_seconds=5, second="/refuse")
    assert run.exit_code == 0
    run.go_on("failed")
    assert run.violations() == ()
