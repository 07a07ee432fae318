# Written by scripts/twins.py from src/reefknot/workflows/_async/registry.py: change that file, then `make twins`.
"""The workflows of one program: starts them, and resumes them when the server calls back."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

import msgspec

from reefknot.client import Client, Response
from reefknot.client._sync.submitting import submit
from reefknot.client.ambient import trace_headers
from reefknot.client.branches import checked_url, is_grpc
from reefknot.client.building import wire_protocol
from reefknot.client.environment import gid_source
from reefknot.client.options import Seconds, TransactionOptions, transaction_options
from reefknot.client.values import TransactionMessage, WorkflowRecord
from reefknot.errors import Failure, Invalid, NotFound, Ongoing, OutcomeUnknown, ReefknotError, RolledBack
from reefknot.model import Op, Status
from reefknot.wire import names
from reefknot.wire.outcome import reason_text
from reefknot.workflows import records
from reefknot.workflows._sync.journal import Journal, Overtaken
from reefknot.workflows._sync.workflow import Workflow
from reefknot.workflows.definition import WorkflowFunction, misplaced
from reefknot.workflows.records import Decided, Decision, Records, Unanswered

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("reefknot.workflows")

#: The method by which a server resumes workflows over gRPC.
GRPC_METHOD = "/workflow.Workflow/Execute"
#: How long the server waits for a workflow that it resumes, unless the program says otherwise.
CALLBACK_SECONDS = 60.0


class Execution(NamedTuple):
    """One workflow to be, by its gid; made by ``Workflows.execution``.

    Attributes:
        flows: whose it is.
        gid: its id.
        retry_every: seconds before the server resumes it, if it is not finished by then; 0 leaves that to the server.
    """

    flows: Workflows
    gid: str
    retry_every: int

    def run(self, function: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here and return its result; see ``Workflows.run``."""
        data = function.encode_arguments(args, kwargs)
        return function.decode_result(self.flows.execute(function, self.gid, data, self.retry_every))

    def start(self, function: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Leave it to the server and return its gid; see ``Workflows.start``."""
        self.flows.store(function, self.gid, function.encode_arguments(args, kwargs), self.retry_every)
        return self.gid


class Workflows:
    """Runs workflows.

        flows = Workflows(client, [transfer], callback="http://me:8000/workflow")
        flows.run(transfer, 30, to="bob")

    Mount ``handle`` at the callback's URL, for POST and GET; over gRPC add ``reefknot.workflows.grpc``'s service.
    Make one for each client, and share it.

    Args:
        client: speaks to the server and calls the services.
        functions: the workflows of this program: all that may be under way with this callback.
        callback: where the server resumes them: a URL of this program, or ``host:port`` of its gRPC server.
        request_timeout: time limit of each call of a service; the client's if not given.
        callback_timeout: how long the server waits for a workflow that it resumes. After that it counts the run
            as lost, and calls again later, while the run may go on.
        headers: sent with every call of a service, and with the server's call of the callback.

    Raises:
        Invalid: one is no workflow, or of the other kind (``def`` or ``async def``); two have one name; an annotation
            of one cannot be used; or the callback cannot be called.
    """

    def __init__(
        self,
        client: Client,
        functions: Iterable[WorkflowFunction[..., Any]],
        *,
        callback: str,
        request_timeout: Seconds | None = None,
        callback_timeout: Seconds = CALLBACK_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._server = client.server
        self._gids = gid_source()
        self._functions: dict[str, WorkflowFunction[..., Any]] = {}
        for function in functions:
            if not isinstance(function, WorkflowFunction):
                raise misplaced(function, "Workflows")
            if function.name in self._functions:
                raise Invalid("functions", f"two workflows are named {function.name!r}", "give each a name of its own")
            function.check()
            self._functions[function.name] = function
        if is_grpc(callback) and "/" not in callback:
            callback += GRPC_METHOD
        self._callback = checked_url("callback", callback, grpc_server=True)
        self._request_timeout = request_timeout
        self._callback_timeout = callback_timeout
        self._headers = headers
        self._options(request_timeout)
        self._options(callback_timeout)

    def run(self, function: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a workflow here, under a new gid, and wait for its result.

        Args:
            function: the workflow.
            *args: its arguments.
            **kwargs: its arguments.

        Returns:
            What it returned.

        Raises:
            RolledBack: it raised ``Failure``, and everything is undone.
            Ongoing, OutcomeUnknown: it is not finished; the server resumes it through the callback.
            GidConflict: the gid is in use by another workflow, or with other arguments.
            WorkflowChanged: with a gid that is in use, its code does other things than were recorded.
            NotFound: with a gid that is in use, it has succeeded and the server does not tell its result.
            ServerUnavailable: nothing was sent.
            Invalid: the arguments or a result cannot be recorded.
            Exception: what else the function raised. It is not finished, and the server resumes it.
        """
        return self.execution().run(function, *args, **kwargs)

    def start(self, function: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Store a workflow under a new gid, and let the server call it back at once.

        Returns:
            Its gid, when it is stored; wait for it with ``client.wait(gid)``.

        Raises:
            GidConflict: as ``run``.
            OutcomeUnknown: it may be stored.
            ServerUnavailable: nothing was sent.
            Invalid: the arguments cannot be recorded.
        """
        return self.execution().start(function, *args, **kwargs)

    def execution(self, gid: str | None = None, *, retry_every: Seconds | None = None) -> Execution:
        """A workflow under a gid of your own: ``flows.execution("order-17").run(transfer, 30)``.

        A second ``run`` with this gid gives the first one's result, or goes on where it stopped.

        Args:
            gid: its id, for example an order number; a new one if there is none.
            retry_every: how long after its last step the server resumes it if it is not finished; 10 s if
                neither this nor the server says otherwise. Longer than the longest step.

        Raises:
            Invalid: the time is not positive.
        """
        options = transaction_options(
            wait=False, timeout=None, request_timeout=None, retry_every=retry_every, headers=None, trace={}
        )
        return Execution(self, gid or self._gids(), options.retry_every)

    def handle(self, query: Mapping[str, str], body: bytes) -> Response:
        """Answer the server's call of the callback: resume a workflow.

        Args:
            query: the query parameters of the call.
            body: its body.

        Returns:
            The status and the body to answer with: 200 when it has ended, 409 when it ended by being rolled back,
            425 when it is not finished, 500 for an error, which is logged.
        """
        try:
            self.resume(query.get("op", ""), query.get("gid", ""), body)
        except RolledBack as error:
            return _answer(names.STATUS_FAILURE, names.FAILURE, error.reason)
        except Ongoing as error:
            return _answer(names.STATUS_ONGOING, names.ONGOING, error.note)
        except Exception as error:  # noqa: BLE001 - the server is told, and calls again
            _log.exception("workflow %s was interrupted; the server calls again", query.get("gid", ""))
            return _answer(500, "", records.interruption(error))
        return _answer(200, names.SUCCESS, "")

    def resume(self, name: str, gid: str, data: bytes) -> None:
        """Run what is left of a workflow.

        Args:
            name: the workflow's name, which the server sends as ``op``.
            gid: its id.
            data: its recorded arguments, which the server sends as the body.

        Raises:
            NotFound: there is no workflow of this name here.
            RolledBack: it is rolled back.
            Exception: as ``run``.
        """
        function = self._functions.get(name)
        if function is None or not gid:
            known = ", ".join(sorted(self._functions)) or "none"
            what = f"there is no workflow named {name!r} here; there are: {known}"
            raise NotFound(what, gid=gid, advice="give it to the Workflows object as long as one is under way")
        self.execute(function, gid, data, 0)

    def store(self, function: WorkflowFunction[..., Any], gid: str, data: bytes, retry_every: int) -> WorkflowRecord:
        """Store a workflow with the server, which calls it back at once; see ``start``."""
        record = self._server.prepare_workflow(self._message(function, gid, data, retry_every))
        _recorded_arguments(function, data, record)
        if not record.status.final:
            try:
                self._client.retry_now(gid)
            except ReefknotError as error:
                # It is stored: the server resumes it after the usual time.
                _log.info("workflow %s is not resumed at once: %s", gid, error.what)
        return record

    def execute(self, function: WorkflowFunction[..., Any], gid: str, data: bytes, retry_every: int) -> bytes:
        """Run a workflow, or what is left of it; its recorded result. See ``run``."""
        if self._functions.get(function.name) is not function:
            raise NotFound(f"{function.name!r} is none of these workflows", gid=gid, advice="give it to Workflows()")
        message = self._message(function, gid, data, retry_every)
        record = self._server.prepare_workflow(message)
        data = _recorded_arguments(function, data, record)
        ended = self._ended(record, gid)
        if ended is not None:
            return ended
        try:
            return self._run(function, data, Records(gid, record.steps))
        except Overtaken:
            # The other run may have ended it.
            ended = self._ended(self._server.prepare_workflow(message), gid)
            if ended is None:
                raise
            return ended
        except (RolledBack, Ongoing):
            raise
        except Exception as error:
            error.add_note(f"workflow {function.name} {gid} is not finished; the server resumes it at {self._callback}")
            raise

    def _run(self, function: WorkflowFunction[..., Any], data: bytes, known: Records) -> bytes:
        """Run the function, decide, do phase 2 and report the end."""
        args, kwargs = function.decode_arguments(data)
        journal = Journal(self._server, known)
        options = self._options(self._request_timeout)
        w = Workflow(self._server, journal, function.name, options, undo_failed=function.undo_failed_step)
        result, refusal = b"", None
        try:
            result = function.encode_result(function(w, *args, **kwargs))
        except Failure as failure:
            refusal = failure
        except (Decided, Unanswered):
            pass
        except RolledBack as error:
            what = f"the function let the end of another transaction through: {error.what}"
            advice = "catch it; raise Failure if the workflow is to be rolled back too"
            raise OutcomeUnknown(what, gid=known.gid, advice=advice) from error
        except BaseExceptionGroup as group:
            refusal = records.refusal_in(group)
        finally:
            w.end()
        w.settle()
        journal.check()
        journal.check_complete()
        decision = known.decision or (Decision(Op.COMMIT) if refusal is None else _rollback(refusal))
        if decision.op == Op.COMMIT and refusal is not None:
            what = f"the workflow was decided to succeed, and now its function refuses: {refusal.reason}"
            raise records.changed(what, known.gid) from refusal
        if len(result) > records.RESULT_BYTES:
            fix = f"return at most {records.RESULT_BYTES}, or a reference to where it is"
            raise Invalid("result", f"has {len(result)} bytes", fix)
        if w.has_phase_two:
            # Also where there is nothing to confirm: a slower run of this workflow must not undo it meanwhile.
            journal.decide(decision)
            w.finish(decision.op)
        return self._report(known.gid, decision, result, refusal)

    def _report(self, gid: str, decision: Decision, result: bytes, refusal: Failure | None) -> bytes:
        """Tell the server how it ended; nothing is repeated after that."""
        if decision.op == Op.COMMIT:
            extra = {"status": str(Status.SUCCEED), "result": b64encode(result).decode()}
        else:
            extra = {"status": str(Status.FAILED), "rollback_reason": decision.reason}
        submit(self._server, TransactionMessage(gid, records.MODE, extra=extra))
        if decision.op == Op.COMMIT:
            return result
        raise self._rolled_back(gid, decision.reason) from refusal

    def _ended(self, record: WorkflowRecord, gid: str) -> bytes | None:
        """The result of a workflow that has succeeded; None if it has not ended."""
        if record.status is Status.SUCCEED:
            return b64decode(record.result)
        if record.status.final:
            raise self._rolled_back(gid, record.reason)
        return None

    def _rolled_back(self, gid: str, reason: str) -> RolledBack:
        return RolledBack(f"the workflow was rolled back: {reason}", reason=reason, gid=gid)

    def _message(
        self, function: WorkflowFunction[..., Any], gid: str, data: bytes, retry_every: int
    ) -> TransactionMessage:
        return TransactionMessage(
            gid,
            records.MODE,
            query_prepared=self._callback,
            protocol=wire_protocol(self._server.address, (self._callback,)),
            custom_data=records.started_text(function.name, data),
            options=self._options(self._callback_timeout, retry_every),
        )

    def _options(self, request_timeout: Seconds | None, retry_every: int = 0) -> TransactionOptions:
        return transaction_options(
            wait=False,
            timeout=None,
            request_timeout=request_timeout,
            retry_every=retry_every or None,
            headers=self._headers,
            trace=trace_headers(),
        )


def _recorded_arguments(function: WorkflowFunction[..., Any], data: bytes, record: WorkflowRecord) -> bytes:
    """The arguments as they are recorded, which may have another form than those of this call.

    Raises:
        GidConflict: another workflow, or other arguments, are recorded.
        WorkflowChanged: those that are recorded do not fit the function any more.
    """
    if not record.custom_data:
        return data
    started = records.started(record.custom_data, record.gid)
    recorded = started.data or b""
    if started.name != function.name:
        raise records.conflict(f"a workflow named {started.name!r}, not {function.name!r}", record.gid)
    if not function.same_arguments(recorded, data):
        raise records.conflict(f"a workflow {function.name!r} with other arguments", record.gid)
    return recorded


def _rollback(refusal: Failure) -> Decision:
    return Decision(Op.ROLLBACK, reason_text(refusal.reason))


def _answer(status: int, result: str, message: str) -> Response:
    fields = {"dtm_result": result, "message": message}
    return Response(status, msgspec.json.encode({name: value for name, value in fields.items() if value}))
