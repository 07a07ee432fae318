"""A client, its participants and a server that is killed at a failpoint: one run for each case."""

import contextlib
import http.client
import signal
import time

from reefknot.testing.effects import Effects
from reefknot.testing.history import Ack, Call, History, result_of, stored
from reefknot.testing.invariants import violations
from reefknot.testing.participant import FAILURE, ONGOING, Participant, Say
from reefknot.testing.server import ServerProcess

#: Everything that takes time is as short as the settings allow.
QUICK = {
    "REEFKNOT_RETRY_INTERVAL": "1",
    "REEFKNOT_TIMEOUT_TO_FAIL": "10",
    "REEFKNOT_REQUEST_TIMEOUT": "1",
    "REEFKNOT_TRANS_CRON_INTERVAL": "1",
    "REEFKNOT_LEASE_SECONDS": "1",
    "REEFKNOT_CONFIG_UPDATE_INTERVAL": "1",
    "REEFKNOT_SHUTDOWN_TIMEOUT": "2",
    "REEFKNOT_LOG_LEVEL": "warn",
}
PATIENCE_SECONDS = 20.0
KILLED = -signal.SIGKILL
#: What a first answer of this kind does: time for a takeover, or for a renewal of the lease.
FIRST_ANSWERS = {"": [], "ongoing": [ONGOING], "long": [Say(seconds=0.9)]}


class Scenario:
    """One client with one transaction, of which it repeats every request whose answer it did not get."""

    def __init__(self, directory, failpoint, mode, *, first="", needs=""):
        self.gid = f"crash-{mode}"
        self.mode = mode
        self.needs = needs
        self.acks = []
        self.seen = []
        self.died = False
        self.exit_code = None
        self.effects = Effects()
        self.participant = Participant()
        self.participant.business(self._business)
        self.participant.always("/refuse", FAILURE)
        for path in ("/one", "/query", "/workflow"):
            self.participant.script(path, FIRST_ANSWERS[first])
        name, _, nth = failpoint.partition("@")
        self.server = ServerProcess(
            f"sqlite:///{directory}/server.db",
            failpoints={name: f"kill@{nth}" if nth else "kill"},
            environment=QUICK,
            log=directory / "server.log",
        )

    def run(self):
        """Kill the server in the middle, let everything end; returns the violations."""
        with self.participant, contextlib.ExitStack() as cleanup:
            cleanup.callback(self.server.kill)
            self._start_armed()
            self._script()
            if self.needs == "SIGTERM":
                self.server.process.send_signal(signal.SIGTERM)
            self._revive()
            self._await_end()
        return violations(self.history())

    def history(self):
        return History(
            acks=tuple(self.acks),
            calls=calls_of(self.participant),
            final=tuple(self.final),
            effects=self.effects.all,
            seen=tuple(self.seen),
            request_timeout_ms=1_000,
            lease_ms=1_000,
            slack_ms=100,
        )

    # --- the server's death and return ------------------------------------------------------------

    def _start_armed(self):
        """Start the server; a failpoint that is hit at once kills it before it answers."""
        with contextlib.suppress(AssertionError):
            self.server.start()
            return
        self._revive()

    def _revive(self):
        if self.died:
            return
        self.exit_code = self.server.wait(PATIENCE_SECONDS)
        assert self.exit_code == KILLED, f"exit code {self.exit_code}: {self.server.log_text()[-1500:]}"
        self.died = True
        self.server.failpoints = {}
        self.server.start()
        if look := self.look():
            self.seen.append(look)

    def look(self):
        answer = self.server.get("query", gid=self.gid)
        assert answer.status == 200, f"query: {answer.status} {answer.body!r}"
        return stored(answer.json())

    def _await_end(self):
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = self.look()
            self.final = [found] if found else []
            if not self.acks or (found and found.finished_ms) or time.monotonic() > until:
                return
            time.sleep(0.05)

    # --- the client -------------------------------------------------------------------------------

    def ask(self, verb, fields, *, ends="", rows=(), also=()):
        """Send a request until it is answered; the answer must be a success or one of ``also``."""
        wanted = {"gid": self.gid, **fields}
        while True:
            try:
                answer = self.server.post(verb, wanted)
            except (OSError, http.client.HTTPException):
                assert not self.died, "the server without failpoints does not answer"
                self._revive()
                continue
            assert answer.status in (200, *also), f"{verb}: {answer.status} {answer.body!r}"
            if answer.status == 200 or verb != "registerBranch":
                self.acks.append(Ack(verb, self.gid, ends, rows))
            return answer.status

    def url(self, path):
        return self.participant.url(path)

    def _business(self, call):
        if call.path == "/workflow":
            return self._resume_workflow()
        if call.op != "msg":
            self.effects.apply(call.gid, call.branch_id, call.op)
        return None

    def _resume_workflow(self):
        """The workflow's own process: goes on where the recorded steps end, and reports the end."""
        try:
            for branch_id in ("01", "02"):
                self._workflow_step(branch_id)
            ask = {"gid": self.gid, "trans_type": "workflow", "req_extra": {"status": "succeed"}}
            if self.server.post("submit", ask).status == 200:
                self.acks.append(Ack("submit", self.gid, "succeed"))
        except (OSError, http.client.HTTPException):
            return Say(500)
        return None

    def _workflow_step(self, branch_id):
        self.effects.apply(self.gid, branch_id, "action")
        step = {"trans_type": "workflow", "branch_id": branch_id, "op": "action", "status": "succeed", "data": "{}"}
        if self.server.post("registerBranch", {"gid": self.gid, **step}).status == 200:
            self.acks.append(Ack("registerBranch", self.gid, rows=((branch_id, "action"),)))

    # --- one script for each mode -----------------------------------------------------------------

    def _script(self):
        scripts = {
            "saga": lambda: self._saga("/two"),
            "saga-rollback": lambda: self._saga("/refuse"),
            "saga-timeout": self._saga_timeout,
            "msg-query": self._msg_query,
            "msg-submit": self._msg_submit,
            "tcc-confirm": lambda: self._two_phase("tcc", "submit"),
            "tcc-cancel": lambda: self._two_phase("tcc", "abort"),
            "tcc-timeout": lambda: self._two_phase("tcc", ""),
            "xa": lambda: self._two_phase("xa", "submit"),
            "xa-rollback": lambda: self._two_phase("xa", "abort"),
            "workflow": self._workflow,
        }
        scripts[self.mode]()

    def _saga(self, second, **options):
        steps = [
            {"action": self.url("/one"), "compensate": self.url("/one-undo")},
            {"action": self.url(second), "compensate": self.url("/two-undo")},
        ]
        fields = {"trans_type": "saga", "steps": steps, "payloads": ["{}", "{}"], "retry_interval": 1, **options}
        # A repetition that comes after the rollback began is told so.
        self.ask("submit", fields, also=(409,))

    def _saga_timeout(self):
        self.participant.always("/two", ONGOING)
        self._saga("/two", timeout_to_fail=1)

    def _msg(self, verb, **ends):
        steps = [{"action": self.url("/one")}, {"action": self.url("/two")}]
        fields = {"trans_type": "msg", "steps": steps, "payloads": ["{}", "{}"], "query_prepared": self.url("/query")}
        timeout = {} if self.mode == "msg-submit" else {"timeout_to_fail": 1}
        # A repetition that comes after the time limit is told that the query-back has decided.
        late = (409,) if timeout else ()
        self.ask(verb, {**fields, **timeout, "retry_interval": 1}, also=late, **ends)

    def _msg_query(self):
        self._msg("prepare", ends="succeed")

    def _msg_submit(self):
        self._msg("prepare")
        self._msg("submit", ends="succeed")

    def _two_phase(self, mode, decision):
        # A client that decides does so in time, also on a machine where many of these run at once.
        fields = {"trans_type": mode, "retry_interval": 1, "timeout_to_fail": 60 if decision else 1}
        late = () if decision else (409,)
        self.ask("prepare", fields, ends="" if decision else "failed", also=late)
        for branch_id, path in (("01", "/one"), ("02", "/two")):
            urls = {"url": self.url(path)}
            rows = ((branch_id, "rollback"), (branch_id, "commit"))
            if mode == "tcc":
                urls = {"confirm": self.url(path), "cancel": self.url(path)}
                rows = ((branch_id, "cancel"), (branch_id, "confirm"))
            branch = {"trans_type": mode, "branch_id": branch_id, **urls}
            if self.ask("registerBranch", branch, rows=rows, also=late) != 200:
                return
            self.effects.apply(self.gid, branch_id, "try" if mode == "tcc" else "action")
        if decision:
            # A repetition of an abort that comes after the rollback ended is told so.
            ends, late = {"submit": ("succeed", ()), "abort": ("failed", (409,))}[decision]
            self.ask(decision, {"trans_type": mode}, ends=ends, also=late)

    def _workflow(self):
        fields = {"trans_type": "workflow", "query_prepared": self.url("/workflow"), "retry_interval": 1}
        self.ask("prepareWorkflow", {**fields, "custom_data": '{"name":"transfer","data":null}'})
        step = {"trans_type": "workflow", "branch_id": "01", "op": "action", "status": "succeed", "data": "{}"}
        self.effects.apply(self.gid, "01", "action")
        # The wake-up after a restart may have taken the workflow to its end already.
        self.ask("registerBranch", step, rows=(("01", "action"),), also=(409,))


def calls_of(participant):
    """A participant's log on the wall clock."""
    offset_ms = time.time() * 1000 - time.monotonic() * 1000
    return tuple(
        Call(
            call.gid,
            call.branch_id,
            call.op,
            call.started * 1000 + offset_ms,
            call.ended * 1000 + offset_ms if call.ended else 0.0,
            result_of(call.status),
        )
        for call in participant.calls
    )
