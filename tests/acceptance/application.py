"""What DTM's clients send, step by step: the requests of an SDK without the SDK."""

import http.client
import json
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from reefknot.testing.participant import OK, ONGOING, Call, Participant, Say
from reefknot.testing.server import Answer, LocalServer

#: What the business is asked to do in each branch.
TRANSFER = json.dumps({"amount": 30})


class Refused(Exception):
    """The branch said FAILURE."""


class Interrupted(Exception):
    """The branch is ongoing, or nobody knows: the same work goes on later."""


class Application:
    """One client program: it starts transactions at the server, and their branches are at the bank.

    Args:
        door: how it reaches the server, ``http`` or ``json-rpc``.
    """

    def __init__(self, server: LocalServer, bank: Participant, door: str = "http") -> None:
        self.server, self.bank, self.door = server, bank, door

    def post(self, verb: str, fields: dict[str, object]) -> Answer:
        """Send a request through the client's door; a reply over JSON-RPC is told in HTTP's words."""
        if self.door == "http":
            return self.server.post(verb, fields)
        reply = self.server.jsonrpc(verb, fields, "no-use").json()
        if reply["error"] is None:
            return Answer(200, b'{"dtm_result":"SUCCESS"}')
        if reply["error"]["code"] == -32901:
            return Answer(409, json.dumps({"dtm_result": "FAILURE", **reply["error"]}).encode())
        return Answer(500, json.dumps(reply["error"]).encode())

    # --- what happened ----------------------------------------------------------------------------

    def state(self, gid: str) -> tuple[str, str]:
        """Status and rows, P, S or F each, once the server drives nothing: ``("succeed", "PSPS")``."""
        self.server.settle()
        return self.server.status(gid), "".join(row[0].upper() for row in self.server.branches(gid))

    def field(self, gid: str, name: str) -> object:
        """A field of the transaction as ``query`` shows it; None if it is left out."""
        return self.server.get("query", gid=gid).json()["transaction"].get(name)

    def reason(self, gid: str) -> str:
        return self.field(gid, "rollback_reason") or ""

    def called(self, gid: str) -> list[str]:
        """The paths of the branch calls of a gid, in order of arrival."""
        return self.bank.called(gid)

    def cron(self, gid: str, plus: float = 0.0, look_ahead: float = 180.0) -> None:
        """One round of recovery that must take this gid and no other."""
        assert self.server.cron(plus, look_ahead=look_ahead) == [gid]

    # --- saga and msg -----------------------------------------------------------------------------

    def saga(self, *names: str, **fields: object) -> dict[str, object]:
        """The body of a saga whose steps are at these names; two if none is given."""
        names = names or ("TransOut", "TransIn")
        steps = [{"action": self.bank.url(f"/{n}"), "compensate": self.bank.url(f"/{n}Revert")} for n in names]
        return self._body("saga", **{"steps": steps, "payloads": [TRANSFER] * len(steps), **fields})

    def msg(self, *targets: str, **fields: object) -> dict[str, object]:
        """The body of a msg to these paths or URLs; the two services if none is given."""
        urls = [self.bank.url(t) if t.startswith("/") else t for t in targets or ("/TransOut", "/TransIn")]
        steps = [{"action": url} for url in urls]
        fields = {"query_prepared": self.bank.url("/QueryPrepared"), **fields}
        return self._body("msg", steps=steps, payloads=[TRANSFER] * len(steps), **fields)

    def _body(self, mode: str, **fields: object) -> dict[str, object]:
        return {"gid": self.server.new_gid(), "trans_type": mode, "concurrent": False, **fields}

    def submit(self, body: dict[str, object]) -> str:
        """Submit, which must be accepted; the gid."""
        return self._accepted("submit", body)

    def prepare(self, body: dict[str, object]) -> str:
        """Prepare, which must be accepted; the gid."""
        return self._accepted("prepare", body)

    def _accepted(self, verb: str, body: dict[str, object]) -> str:
        answer = self.post(verb, body)
        assert (answer.status, answer.json()) == (200, {"dtm_result": "SUCCESS"}), answer
        return str(body["gid"])

    # --- tcc and xa -------------------------------------------------------------------------------

    def begin(self, mode: str, **fields: object) -> str:
        """Prepare a tcc or xa."""
        return self.prepare(self._body(mode, **fields))

    def end(self, mode: str, gid: str) -> Answer:
        """Submit it."""
        return self.post("submit", {"gid": gid, "trans_type": mode, "concurrent": False})

    def abort(self, mode: str, gid: str, reason: str = "") -> Answer:
        """Abort it."""
        fields = {"gid": gid, "trans_type": mode, "concurrent": False}
        return self.post("abort", {**fields, "rollback_reason": reason} if reason else fields)

    def register_tcc(self, gid: str, name: str, branch_id: str, *, phase_two: bool = True) -> Answer:
        """Register a tcc branch; without phase two its URLs are empty."""
        fields = {"gid": gid, "trans_type": "tcc", "branch_id": branch_id, "data": TRANSFER, "status": "prepared"}
        fields["confirm"] = self.bank.url(f"/{name}Confirm") if phase_two else ""
        fields["cancel"] = self.bank.url(f"/{name}Revert") if phase_two else ""
        return self.post("registerBranch", fields)

    def tcc_branch(self, gid: str, name: str, branch_id: str, **headers: str) -> Answer:
        """Register a branch and try it."""
        answer = self.register_tcc(gid, name, branch_id)
        assert answer.status == 200, answer
        return self.call(f"/{name}", gid, "tcc", branch_id, "try", **headers)

    def register_xa(self, gid: str, name: str, branch_id: str) -> Answer:
        """Register an xa branch, as its participant does before it prepares its database."""
        fields = {"gid": gid, "trans_type": "xa", "branch_id": branch_id, "url": self.bank.url(f"/{name}Xa")}
        return self.post("registerBranch", fields)

    def call(self, path: str, gid: str, mode: str, branch_id: str, op: str, **headers: str) -> Answer:
        """Call a branch as the client does itself."""
        query = {"dtm": self.server.url, "gid": gid, "trans_type": mode, "branch_id": branch_id, "op": op}
        target = urlsplit(self.bank.url(path))
        connection = http.client.HTTPConnection(target.netloc, timeout=10)
        try:
            connection.request("POST", f"{target.path}?{urlencode(query)}", TRANSFER, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()


def said(answer: Answer) -> None:
    """Turn a branch's answer into an exception unless it is a success.

    Raises:
        Refused: FAILURE.
        Interrupted: ONGOING or anything unclear.
    """
    if answer.status == 409 or b"FAILURE" in answer.body:
        raise Refused(answer.body.decode())
    if answer.status != 200 or b"ONGOING" in answer.body:
        raise Interrupted(answer.body.decode())


class WorkflowClient:
    """The workflow loop of an SDK: recorded steps are replayed, new ones recorded, the end reported.

    Args:
        app: whose server and bank it uses; the server calls back at the bank.
        name: the workflow's name.
        function: gets a ``WorkflowRun`` and returns the result's text.
    """

    def __init__(self, app: Application, name: str, function: Callable[["WorkflowRun"], str]) -> None:
        self.app, self.name, self.function = app, name, function
        app.bank.on("/workflow/resume", self._resumed)

    def body(self, gid: str) -> dict[str, object]:
        custom = json.dumps({"name": self.name, "data": "eyJhbW91bnQiOjMwfQ=="})
        query = self.app.bank.url("/workflow/resume")
        return {"gid": gid, "trans_type": "workflow", "query_prepared": query, "custom_data": custom}

    def execute(self, gid: str) -> str:
        """Run the workflow, or what is left of it; its result.

        Raises:
            Refused: it was rolled back.
            Interrupted: it goes on when the server calls back.
        """
        answer = self.app.post("prepareWorkflow", self.body(gid))
        assert answer.status == 200, answer
        there = answer.json()
        transaction = there["transaction"]
        if transaction["status"] == "succeed":
            return transaction.get("result", "")
        if transaction["status"] == "failed":
            raise Refused(transaction.get("rollback_reason", ""))
        run = WorkflowRun(self.app, gid, {(row["branch_id"], row["op"]): row for row in there["progresses"]})
        try:
            result = self.function(run)
        except Refused as refusal:
            run.finish("rollback")
            self._report(gid, status="failed", rollback_reason=str(refusal))
            raise
        run.finish("commit")
        self._report(gid, status="succeed", result=result)
        return result

    def _report(self, gid: str, **extra: str) -> None:
        answer = self.app.post("submit", {"gid": gid, "trans_type": "workflow", "req_extra": extra})
        assert answer.status == 200, answer

    def _resumed(self, call: Call) -> Say:
        """The server calls back."""
        try:
            self.execute(call.gid)
        except Interrupted:
            return ONGOING
        except Refused:
            return Say(409, b'{"dtm_result":"FAILURE"}')
        return OK


class WorkflowRun:
    """One execution: what the function of a workflow works with."""

    def __init__(self, app: Application, gid: str, recorded: dict[tuple[str, str], dict[str, str]]) -> None:
        self.app, self.gid, self._recorded = app, gid, recorded
        self._number = 0
        self._phase_two: list[tuple[str, dict[str, str]]] = []

    def step(self, action: str, *, op: str = "action", commit: str = "", rollback: str = "") -> None:
        """Call a path as the next branch, once, with what to call for it when all ends.

        Raises:
            Refused, Interrupted: as the branch answered; a refusal is recorded.
        """
        self._number += 1
        branch_id = f"{self._number:02d}"
        self._phase_two.append((branch_id, {"commit": commit, "rollback": rollback}))
        if (branch_id, op) not in self._recorded:
            answer = self.app.call(action, self.gid, "workflow", branch_id, op)
            try:
                said(answer)
            except Refused:
                self._phase_two.pop()
                self.record(branch_id, op, "failed", answer.body.decode())
                raise
            self.record(branch_id, op, "succeed", answer.body.decode())
        elif self._recorded[branch_id, op]["status"] == "failed":
            self._phase_two.pop()
            raise Refused("recorded")

    def record(self, branch_id: str, op: str, status: str, data: str) -> None:
        """Tell the server how a step ended."""
        fields = {"gid": self.gid, "trans_type": "workflow", "branch_id": branch_id, "op": op, "status": status}
        answer = self.app.post("registerBranch", {**fields, "data": data})
        assert answer.status == 200, answer

    def finish(self, op: str) -> None:
        """Call what every branch asked for, newest first, each once."""
        for branch_id, paths in reversed(self._phase_two):
            if paths[op] and (branch_id, op) not in self._recorded:
                said(self.app.call(paths[op], self.gid, "workflow", branch_id, op))
                self.record(branch_id, op, "succeed", "")
