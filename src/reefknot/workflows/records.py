"""What a workflow has recorded with the server, and what follows from it. No I/O.

The rows of one workflow, by branch id and operation. DTM's server keeps all of them, and DTM's clients read
those in the first four lines; the others are names they do not look up.

    01  action                   what the step returned, or the text of its refusal
    01  business                 what an xa step returned, before its database has prepared
    01  commit, rollback         phase 2 of the step is done
    00  decision                 whether it ends in commit or rollback, before the first call of phase 2
    01  step                     which step it is, before it is done: by this, changed code is found out
    01  unrecordable             why what it returned cannot be recorded: its work is done, and is not done again
    01  form                     ``parts``: the result is not plain, but a list of the operations that hold it
    01  part-<digest>-<number>   a piece of it, in base64

A result is not plain if it is larger than ``PLAIN_BYTES``, or is no text where the protocol carries text.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import msgspec

from reefknot.client.values import RecordedStep
from reefknot.errors import Failure, GidConflict, Invalid, OutcomeUnknown, ReefknotError, WorkflowChanged
from reefknot.model import Op
from reefknot.wire.outcome import reason_text

MODE = "workflow"
#: Where the workflow's own rows are; steps begin at 01.
OWN_BRANCH = "00"
DECISION = "decision"
STEP = "step"
BUSINESS = "business"
UNRECORDABLE = "unrecordable"
FORM = "form"
PARTS = "parts"
#: The largest result in one row, as JSON writes it: a quarter of the server's BodyLimit.
PLAIN_BYTES = 1024 * 1024
#: The pieces of a larger one, before base64.
PART_BYTES = 512 * 1024
#: The largest result of a workflow, before base64: it is sent in one request.
RESULT_BYTES = 2 * 1024 * 1024


class Decided(BaseException):
    """Leaves the workflow's function: it was decided to roll back, so nothing new may begin.

    No ``Exception``, so that a handler for errors of a step does not take it for one.
    """


class Unanswered(OutcomeUnknown):
    """A step that had no clear answer before it was decided to roll back.

    The function may have caught that and gone on, to steps that are to be undone too, so it is told it again.
    Where it lets this through, it has nothing more to say, as with ``Decided``.
    """


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a workflow ends.

    Attributes:
        op: ``commit`` or ``rollback``.
        reason: why it is rolled back.
    """

    op: str
    reason: str = ""


class Unrecordable(msgspec.Struct, frozen=True):
    """Why what a step returned cannot be recorded: the parts of ``Invalid``."""

    field: str
    problem: str
    fix: str

    @classmethod
    def of(cls, error: Exception, what: str) -> Unrecordable:
        """The reason in an error, of any kind, that came up when ``what`` was encoded."""
        if isinstance(error, Invalid):
            return cls(error.field, reason_text(error.problem), error.fix)
        fix = "return what the annotation or returns= says"
        return cls(what, reason_text(f"cannot be recorded ({type(error).__name__}: {error})"), fix)

    def error(self, gid: str, branch_id: str) -> Invalid:
        """The error that every run gets."""
        made = Invalid(self.field, self.problem, self.fix)
        made.gid, made.branch_id = gid, branch_id
        made.advice = (
            "the step's work is done and is not done again: catch this and raise Failure, which undoes it, or end "
            "the workflow with client.force_stop"
        )
        return made


class Started(msgspec.Struct, frozen=True):
    """What a workflow was started with: the JSON text that the server keeps, as DTM's clients write it too.

    Attributes:
        name: the workflow.
        data: its recorded arguments, base64 in the text.
    """

    name: str = ""
    data: bytes | None = None


class Records:
    """The rows of one workflow: those the server had when the run began, and those it has accepted since.

    Args:
        gid: the workflow.
        steps: what the server had.
    """

    def __init__(self, gid: str, steps: Iterable[RecordedStep]) -> None:
        self.gid = gid
        self._steps = {(step.branch_id, step.op): step for step in steps}
        found = self.get(OWN_BRANCH, DECISION)
        #: How it ends; None as long as that is open.
        self.decision: Decision | None = msgspec.json.decode(found.data, type=Decision) if found else None

    def get(self, branch_id: str, op: str) -> RecordedStep | None:
        """A row, or None."""
        return self._steps.get((branch_id, op))

    def add(self, step: RecordedStep) -> None:
        """The server has accepted a row."""
        self._steps[step.branch_id, step.op] = step

    def unfinished(self) -> list[str]:
        """The branch ids of the steps that any run has begun, without those whose phase 2 is done."""
        begun = {branch_id for branch_id, op in self._steps if op in (STEP, Op.ACTION, BUSINESS)}
        done = {branch_id for branch_id, op in self._steps if op in (Op.COMMIT, Op.ROLLBACK)}
        return sorted(begun - done - {OWN_BRANCH})

    def named(self, branch_id: str) -> str:
        """The name of a recorded step, as it stands in a text; empty where none is recorded."""
        found = self.get(branch_id, STEP)
        return f" {found.data.decode(errors='replace')!r}" if found else ""

    def is_begun(self, branch_id: str, name: str) -> bool:
        """Whether this step was begun before.

        Raises:
            WorkflowChanged: another one was begun in its place.
        """
        found = self.get(branch_id, STEP)
        if found is None:
            # A client of DTM in another language records no names.
            return any((branch_id, op) in self._steps for op in (Op.ACTION, BUSINESS))
        then = found.data.decode(errors="replace")
        if then != name:
            what = f"step {branch_id} was {then!r}, now it is {name!r}"
            raise changed(what, self.gid, branch_id)
        return True

    def may_do(self, branch_id: str, *, begun: bool, name: str) -> None:
        """Allow a step that has no result yet, unless the workflow is decided.

        Raises:
            Decided: it is being rolled back, and this step was not part of it.
            WorkflowChanged: it is committed, and this step was not part of it.
            OutcomeUnknown: it is decided although this step had no clear answer; that is what the function
                was told then, too.
        """
        if self.decision is None:
            return
        rolls_back = self.decision.op == Op.ROLLBACK
        if not begun:
            if rolls_back:
                raise Decided
            raise changed(f"step {branch_id} is {name!r}, and was not there before", self.gid, branch_id)
        what = f"the step {name!r} had no clear answer before the workflow was decided"
        raise (Unanswered if rolls_back else OutcomeUnknown)(what, gid=self.gid, branch_id=branch_id)

    def result(self, step: RecordedStep) -> bytes:
        """What a step returned, put together from its parts if it has any."""
        if self.get(step.branch_id, FORM) is None or step.op != Op.ACTION:
            return step.data
        parts = (self.get(step.branch_id, op) for op in msgspec.json.decode(step.data, type=list[str]))
        return b"".join(b64decode(part.data) for part in parts if part)

    def business_rows(self, branch_id: str) -> list[RecordedStep]:
        """What the attempts of an xa step returned, in their order."""
        names = (business(number) for number in range(1, len(self._steps) + 1))
        return [found for op in names if (found := self.get(branch_id, op))]


def started_text(name: str, data: bytes) -> str:
    """What is sent to start a workflow; see ``Started``."""
    return msgspec.json.encode(Started(name, data)).decode()


def started(text: str, gid: str) -> Started:
    """Read what ``started_text`` or a client in another language wrote.

    Raises:
        GidConflict: it is no workflow's.
    """
    try:
        return msgspec.json.decode(text, type=Started)
    except msgspec.DecodeError as error:
        raise conflict("something that is no workflow", gid) from error


def conflict(other: str, gid: str) -> GidConflict:
    """The error for a gid that is in use by something else."""
    advice = "repeat it with exactly what it was started with, or use another gid"
    return GidConflict(f"the gid is in use by {other}", gid=gid, advice=advice)


def changed(what: str, gid: str, branch_id: str = "") -> WorkflowChanged:
    """The error for code that differs from what is recorded."""
    advice = "run it with the code that started it; or end it with client.force_stop, which undoes nothing"
    return WorkflowChanged(what, gid=gid, branch_id=branch_id, advice=advice)


def refusal_in(group: BaseExceptionGroup[BaseException]) -> Failure | None:
    """The first refusal among the errors of steps that were done at the same time.

    Returns:
        None if the workflow was decided before, and nothing else is in the group.

    Raises:
        BaseExceptionGroup: the group, if something else is in it: then nothing is decided.
    """
    if group.split((Failure, Decided, Unanswered))[1] is not None:
        raise group
    first: BaseException | None = group.subgroup(Failure)
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, Failure) else None


def interruption(error: BaseException) -> str:
    """What the server is told when a workflow broke off, and keeps with it.

    Of an exception that is not Reefknot's only the type: its text may hold what others must not read. The whole
    error is in the log of the program.
    """
    kind = type(error).__name__
    return reason_text(f"{kind}: {error.what}" if isinstance(error, ReefknotError) and error.what else kind)


def call_name(url: str) -> str:
    """The name of a step that calls a URL: the URL without what may be secret or differ from run to run."""
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    place = parts.netloc.rpartition("@")[2] + parts.path
    return place if parts.scheme == "grpc" else f"{parts.scheme}://{place}"


def business(attempt: int) -> str:
    """The operation under which an attempt of an xa step, from 1, records what it returned."""
    return BUSINESS if attempt == 1 else f"{BUSINESS}-{attempt}"


def is_plain(data: bytes, *, binary: bool) -> bool:
    """Whether a result can stand in one row as it is.

    Args:
        data: the result.
        binary: whether the protocol carries any bytes.
    """
    if binary or len(data) > PLAIN_BYTES:
        return len(data) <= PLAIN_BYTES
    try:
        return len(msgspec.json.encode(data.decode())) <= PLAIN_BYTES
    except UnicodeDecodeError:
        return False


def parts_of(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The pieces of a result: the operation of each and what stands there.

    The operations differ for different results, so that what an attempt left behind is in nobody's way.
    """
    digest = hashlib.sha256(data).hexdigest()[:16]
    for number, begin in enumerate(range(0, len(data), PART_BYTES)):
        yield f"part-{digest}-{number}", b64encode(data[begin : begin + PART_BYTES])
