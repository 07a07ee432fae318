"""SIGKILL at every failpoint in every mode, on SQLite: nothing acknowledged is lost, all of it ends.

Each case starts a server with one failpoint armed, lets a client run one transaction until the
server is dead, starts it again without failpoints, lets the client go on, and gives everything
that was seen to the checker of the invariants. Cases run several at a time.
"""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from crash.scenario import KILLED, QUICK, Scenario
from reefknot.failpoints import NAMES
from reefknot.testing.history import stored
from reefknot.testing.participant import ONGOING, Participant
from reefknot.testing.server import ServerProcess

pytestmark = [pytest.mark.crash, pytest.mark.slow]

#: Number of API requests of each mode's client; the ping of the start is one more before them.
REQUESTS = {
    "saga": 1,
    "saga-rollback": 1,
    "msg-query": 1,
    "msg-submit": 2,
    "tcc-confirm": 4,
    "tcc-cancel": 4,
    "xa": 4,
    "workflow": 4,
}
MODES = tuple(REQUESTS)
SUBMITTING = ("saga", "saga-rollback", "msg-submit", "tcc-confirm", "xa")
PREPARING = ("msg-query", "msg-submit", "tcc-confirm", "tcc-cancel", "xa")
DECIDING = ("msg-submit", "tcc-confirm", "tcc-cancel", "xa", "workflow")
SERVER_FINISHES = tuple(mode for mode in MODES if mode != "workflow")

#: Failpoints that no request to a server on SQLite can reach, and why.
UNREACHABLE = {
    "group.bisect": "needs an operation that the writer refuses; the API refuses all of them at the door. "
    "tests/unit/store/test_groupcommit.py reaches it",
}


class Case(NamedTuple):
    failpoint: str  # name, or name@n for the n-th hit
    mode: str
    first: str = ""  # how the participant answers first
    needs: str = ""

    @property
    def id(self):
        return "-".join(part for part in (self.failpoint.replace("@", "-hit"), self.mode) if part)


def cases_of(mode):
    """The cases that every mode has."""
    last = REQUESTS[mode] + 1
    # A workflow that ends during its wake-up ends the wake-up as well: let it take two.
    late = "ongoing" if mode == "workflow" else ""
    for point in ("api.recv", "api.before_ack", "api.after_ack"):
        yield Case(f"{point}@{last}", mode)
    if last > 2:
        yield Case("api.before_ack@2", mode)
    for point in ("call.before_send", "call.sent_no_reply", "call.reply_before_record"):
        yield Case(point, mode, first=late)
        if not late:
            yield Case(f"{point}@2", mode)
    for point in ("record.before_commit", "record.after_commit"):
        yield Case(point, mode, first=late)
    for point in ("group.batch_built@3", "group.batch_committed@3", "group.batch_committed@4"):
        yield Case(point, mode)
    for point in ("claim.committed_not_loaded", "claim.loaded", "claim.selected@3"):
        yield Case(point, mode, first="ongoing")
    for point in ("renew.before", "renew.after"):
        yield Case(point, mode, first="long")
    for point in ("shutdown.before_release", "shutdown.released"):
        yield Case(point, mode, first="ongoing", needs="SIGTERM")


#: Failpoints that only some modes reach.
SOME_MODES = (
    (("api.validated", "submit.before_insert", "submit.after_insert"), SUBMITTING),
    (("prepare.before_insert", "prepare.after_insert"), PREPARING),
    (("register.before_insert", "register.after_insert@2"), ("tcc-confirm", "tcc-cancel", "xa", "workflow")),
    (("decide.before_cas", "decide.after_cas"), DECIDING),
    (("finish.before", "finish.after"), SERVER_FINISHES),
    (("call.before_send@3", "call.reply_before_record@3", "record.after_commit@3"), ("saga-rollback",)),
    (("saga.before_abort",), ("saga-rollback", "saga-timeout", "tcc-timeout")),
    (("saga.before_compensate",), ("saga-rollback", "tcc-cancel", "xa-rollback")),
    (("timeout.detected",), ("saga-timeout", "tcc-timeout")),
    (("msg.before_checkback", "msg.after_checkback"), ("msg-query",)),
    (("workflow.decision_recorded",), ("workflow",)),
    (("topic.refresh@2",), ("msg-submit",)),
)


def cases():
    for mode in MODES:
        yield from cases_of(mode)
    for points, modes in SOME_MODES:
        for point in points:
            for mode in modes:
                yield Case(point, mode)
    yield Case("workflow.callback_sent", "workflow", first="ongoing")


CASES = tuple(cases())


def run_case(case):
    """Run one case; the violations that were found."""
    directory = Path(tempfile.mkdtemp(prefix="reefknot-crash-"))
    try:
        return Scenario(directory, case.failpoint, case.mode, first=case.first, needs=case.needs).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def outcomes(request):
    """The running cases: those that were selected, several at a time."""
    chosen = [item.callspec.params["case"] for item in request.session.items if item.name.startswith("test_kill[")]
    with ThreadPoolExecutor(5) as pool:
        running = {case: pool.submit(run_case, case) for case in chosen}
        yield running
        for future in running.values():
            future.cancel()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_kill(case, outcomes):
    again = f"reproduce: pytest tests/crash/test_kill_at_failpoints.py -k 'test_kill and {case.id}'"
    try:
        found = outcomes[case].result()
    except Exception as error:
        raise AssertionError(again) from error
    assert found == (), again


def test_every_failpoint_has_a_case():
    elsewhere = {"migrate.step", "purge.before_delete", "purge.half_deleted"}
    covered = {case.failpoint.partition("@")[0] for case in CASES} | elsewhere | set(UNREACHABLE)
    assert covered == NAMES
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("failpoint", ["migrate.step", "topic.refresh", "claim.selected", "group.batch_built"])
def test_kill_during_the_first_start(tmp_path, failpoint):
    server = ServerProcess(f"sqlite:///{tmp_path}/server.db", failpoints={failpoint: "kill"}, environment=QUICK)
    with Participant() as participant:
        try:
            with pytest.raises(AssertionError, match="did not start"):
                server.start()
            assert server.wait() == KILLED
            server.failpoints = {}
            server.start()
            step = {"action": participant.url("/one"), "compensate": ""}
            server.post("submit", {"gid": "g", "trans_type": "saga", "steps": [step], "payloads": ["{}"]})
            assert server.wait_for("g", "succeed") == "succeed"
        finally:
            server.kill()


@pytest.mark.parametrize("failpoint", ["purge.before_delete", "purge.half_deleted"])
def test_kill_during_a_purge(tmp_path, failpoint):
    """Old finished transactions are there whole or not at all; unfinished ones are never touched."""
    finished = [f"done-{number}" for number in range(220)]
    with Participant() as participant:
        participant.script("/slow", [ONGOING] * 3)
        server = ServerProcess(f"sqlite:///{tmp_path}/server.db", environment=QUICK)
        with server:
            for gid in (*finished, "open"):
                step = {"action": participant.url("/slow") if gid == "open" else "", "compensate": ""}
                submit = {"gid": gid, "trans_type": "saga", "steps": [step], "payloads": ["{}"]}
                assert server.post("submit", submit).status == 200
            server.wait_for(finished[-1], "succeed")
            server.kill()
            retention = {"REEFKNOT_STORE_FINISHED_DATA_EXPIRE": "1", "REEFKNOT_PURGE_INTERVAL": "1"}
            server._environment = {**QUICK, **retention}
            server.failpoints = {failpoint: "kill"}
            server.start()
            assert server.wait() == KILLED
            server.failpoints, server._environment = {}, QUICK
            server.start()
            assert server.wait_for("open", "succeed") == "succeed"
            left = [server.get("query", gid=gid).json() for gid in finished]
            deleted = sum(1 for reply in left if stored(reply) is None)
            assert all(len(reply["branches"]) == (2 if reply["transaction"] else 0) for reply in left)
            assert deleted == 0 if failpoint == "purge.before_delete" else 0 < deleted < len(finished)
