"""Workflows whose program dies: at every request it makes, and by SIGKILL."""

import subprocess
import sys
from pathlib import Path

import pytest

from reefknot import OutcomeUnknown, ReefknotError, RolledBack, ServerUnavailable, Workflow, workflow
from reefknot.client.exchange import NotSent
from reefknot.client.transports.urllib3 import Urllib3Transport
from reefknot.testing.participant import FAILURE, OK, Participant
from reefknot.testing.server import LocalServer, free_port
from sdk.workflow_bank import Program, new_gid
from sdk.workflow_worker import PLACES

WORKER = Path(__file__).with_name("workflow_worker.py")


@workflow("transfer")
def transfer(w: Workflow, bank: str) -> str:
    w.call(f"{bank}/out", undo=f"{bank}/out/undo", commit=f"{bank}/out/take")
    note = w.do(lambda: "noted", returns=str)
    w.call(f"{bank}/in", undo=f"{bank}/in/undo", commit=f"{bank}/in/take")
    return note


class Mortal:
    """Carries requests until the program dies: before or after one of them, by number; then nothing more."""

    def __init__(self, dies_at, *, after):
        self._inner = Urllib3Transport()
        self._dies_at = dies_at
        self._after = after
        self.sent = 0

    def send(self, request):
        self.sent += 1
        if self.sent < self._dies_at or not self._dies_at:
            return self._inner.send(request)
        if self.sent == self._dies_at and self._after:
            self._inner.send(request)
            raise TimeoutError("dead")
        raise NotSent("dead")

    def revive(self):
        self._dies_at = 0

    def close(self):
        self._inner.close()


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("ending", ["succeed", "failed"])
def test_a_program_that_dies_at_any_request(server, ending, after):
    """Whatever was lost, the workflow ends as it would have, and what is recorded is not done again."""
    forward = [("/out", "action"), ("/in", "action")]
    ends = {
        "succeed": [*forward, ("/in/take", "commit"), ("/out/take", "commit")],
        "failed": [*forward, ("/in/undo", "rollback"), ("/out/undo", "rollback")],
    }
    number = 0
    while True:
        number += 1
        gid, mortal = new_gid(), Mortal(number, after=after)
        with Program(server, [transfer], transport=mortal) as program:
            program.bank.script("/in", [FAILURE if ending == "failed" else OK] * 3)
            try:
                program.run(gid, transfer, program.url(""))
            except (OutcomeUnknown, ServerUnavailable):
                mortal.revive()
                if program.state(gid):
                    program.cron()
                else:
                    # It died before it was stored: nothing was called, and it can be run again.
                    assert program.called(gid) == []
                    continue
            except RolledBack:
                assert ending == "failed"
            assert program.state(gid) == ending, number
            calls = program.called(gid)
            assert sorted(set(calls)) == sorted(ends[ending])
            assert len(calls) <= len(ends[ending]) + 1
            first_of_each = [call for index, call in enumerate(calls) if call not in calls[:index]]
            assert first_of_each == ends[ending]
            assert program.rows(gid, "decision") == [("00", "decision", "succeed")]
            if mortal.sent < number:
                break
    # Steps with their records, the decision, phase two with its records, and the report of the end.
    assert number > 12


@pytest.mark.parametrize("place", PLACES)
def test_a_program_that_is_killed_goes_on_in_another_process(place):
    port, gid = free_port(), new_gid()
    with LocalServer(poll=True, retry_interval=1, trans_cron_interval=1) as server, Participant() as bank:

        def worker(*arguments):
            return subprocess.Popen(
                [sys.executable, str(WORKER), server.url, str(port), bank.url(""), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

        with worker(gid, place) as first:
            assert first.wait(60) == -9
        assert server.status(gid) == "prepared"
        with worker("", "") as second:
            assert second.stdout.readline() == "serving\n"
            assert server.wait_for(gid, "succeed", seconds=60) == "succeed"
        with worker(gid, "") as third:
            assert [third.stdout.readline() for _ in range(2)] == ["serving\n", "30 noted\n"]
        calls = [(call.path, call.op) for call in bank.calls if call.gid == gid]
    assert calls == [("/out", "action"), ("/in", "action"), ("/in/take", "commit"), ("/out/take", "commit")]


def test_it_does_not_begin_without_the_server():
    begun = []

    @workflow("begun")
    def begin(w: Workflow) -> None:
        begun.append(w.gid)

    with LocalServer() as server, Program(server, [begin], "http://127.0.0.1:9") as program:
        with pytest.raises(ServerUnavailable):
            program.run(new_gid(), begin)
        with pytest.raises(ReefknotError):
            program.start(new_gid(), begin)
    assert begun == []
