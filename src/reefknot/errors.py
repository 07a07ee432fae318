"""The one error tree, of the server and of the SDK.

    ReefknotError
    ├── Refused             the state of the transaction forbids it          409 FAILURE
    │   └── GidConflict     the gid exists with other content                409 FAILURE
    ├── RolledBack          it was rolled back, durably                      409 FAILURE
    ├── Unfinished          not decided yet, ask again                       425 ONGOING
    ├── Invalid             the request is wrong: names field, problem, fix  400 (or what DTM answers)
    │   └── TooLarge        the request is larger than a documented limit    413
    ├── NotFound            there is no such transaction, topic or key       500, as DTM
    ├── Unavailable         the store or the server cannot serve it now      503
    │   ├── StoreUnavailable
    │   └── Overloaded
    ├── ConfigError         a setting is wrong: names the key and the fix
    │
    ├── Failure             a branch says no, for good                       SDK only from here
    ├── Ongoing             a branch or a transaction is not finished yet
    ├── OutcomeUnknown      no clear answer: it may have happened
    ├── ServerUnavailable   nothing was sent, or nothing was changed
    ├── BarrierMissing      the barrier's table is not there
    └── WorkflowChanged     a workflow's code differs from what it recorded

The numbers are what ``wire`` makes of them over HTTP. Every class has a stable ``code``;
docs/errors.md says for each code what happened and what to do.
"""

from __future__ import annotations

import re
from typing import ClassVar

_USER = re.compile(r"//.*@")


def shown_url(url: str) -> str:
    """A URL as it may stand in a log: what it says of its caller, and its query, may be secret.

    Args:
        url: any URL, also one of gRPC, which has no scheme.

    Returns:
        The URL without user, password and query.
    """
    return _USER.sub("//", url.partition("?")[0])


class ReefknotError(Exception):
    """Something Reefknot reports on purpose.

    As text it has up to three parts: what happened; which gid, branch or URL; what to do next.

    Args:
        what: what happened, in words.
        gid: the transaction it is about.
        branch_id: the branch it is about.
        url: the server or branch that was called; as text without user and query.
        advice: what to do next.
    """

    code: ClassVar[str] = "RK100"

    def __init__(self, what: str = "", *, gid: str = "", branch_id: str = "", url: str = "", advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.gid = gid
        self.branch_id = branch_id
        self.url = url
        self.advice = advice

    def __str__(self) -> str:
        where = {"gid": self.gid, "branch": self.branch_id, "url": shown_url(self.url)}
        named = "  ".join(f"{name}: {value}" for name, value in where.items() if value)
        if not named and not self.advice:
            return self.what
        lines = [f"{self.what} ({self.code})"]
        lines += [f"  {named}"] if named else []
        lines += [f"  next: {self.advice}"] if self.advice else []
        return "\n".join([*lines, f"  more: docs/errors.md#{self.code.lower()}"])


class Refused(ReefknotError):
    """The current state of the transaction forbids this request.

    Args:
        what: what happened, in words.
        status: the status that forbids it, where it is known.
        **context: as ``ReefknotError``.
    """

    code = "RK206"

    def __init__(self, what: str = "", *, status: str = "", **context: str) -> None:
        super().__init__(what, **context)
        self.status = status


class GidConflict(Refused):
    """The gid is in use by a transaction with other content."""

    code = "RK205"


class RolledBack(ReefknotError):
    """The transaction was rolled back; the decision is durable.

    Args:
        what: what happened, in words.
        reason: why it was rolled back, in the words of the branch that refused, whose URL is ``url``; or the
            server's, for example after a time limit.
        **context: as ``ReefknotError``.
    """

    code = "RK203"

    def __init__(self, what: str = "", *, reason: str = "", **context: str) -> None:
        super().__init__(what, **context)
        self.reason: str = reason or what


class Unfinished(ReefknotError):
    """The transaction is not finished yet; its outcome is not known."""

    code = "RK101"


class Invalid(ReefknotError):
    """The request cannot be accepted as it is.

    Args:
        field: the name of the field as the client sent it, for example ``steps[2].action``.
        problem: what is wrong with its value, in words.
        fix: what to send instead; may be empty where the problem says it already.
        status: the HTTP status; 400 unless DTM answers something else in this place.
        **context: as ``ReefknotError``.
    """

    code = "RK211"

    def __init__(self, field: str, problem: str = "", fix: str = "", *, status: int = 400, **context: str) -> None:
        text = f"{field}: {problem}" if field and problem else field or problem
        super().__init__(f"{text}; {fix}" if fix else text, **context)
        self.field = field
        self.problem = problem
        self.fix = fix
        self.status = status


class TooLarge(Invalid):
    """The request is larger than a documented limit."""

    def __init__(self, field: str, problem: str = "", fix: str = "") -> None:
        super().__init__(field, problem, fix, status=413)


class NotFound(ReefknotError):
    """There is no such transaction, topic or key."""

    code = "RK207"


class Unavailable(ReefknotError):
    """It cannot be served now; nothing is known to have changed. Repeat the request later."""

    code = "RK102"


class StoreUnavailable(Unavailable):
    """The store did not answer; whether the last write happened is not known."""


class Overloaded(Unavailable):
    """The server has more work than its limits allow; nothing was stored."""


class ConfigError(ReefknotError):
    """A setting is missing, wrong or unknown."""

    code = "RK103"


class Failure(ReefknotError):
    """A definite no: everything is rolled back.

    Raise it in a branch: its caller gets the HTTP status 409. The client raises it when a branch
    that it calls itself (the try of a tcc, the call of an xa) says no.

    Args:
        reason: why, in words; it becomes the transaction's reason.
        **context: as ``ReefknotError``; leave it out in a branch.
    """

    code = "RK201"

    def __init__(self, reason: str = "", **context: str) -> None:
        super().__init__(reason, **context)
        self.reason = reason


class Ongoing(ReefknotError):
    """Not finished yet: ask again later. Never a failure.

    Raise it in a branch: its caller gets the HTTP status 425 and asks again. The client raises it
    when a transaction or a branch that it waited for is still running.

    Args:
        note: what it is waiting for, in words.
        retry_after: seconds after which asking again makes sense; None leaves that to the server.
        **context: as ``ReefknotError``; leave it out in a branch.
    """

    code = "RK202"

    def __init__(self, note: str = "", *, retry_after: float | None = None, **context: str) -> None:
        super().__init__(note, **context)
        self.note = note
        self.retry_after = retry_after


class OutcomeUnknown(ReefknotError):
    """There was no clear answer: what was asked may have happened, or not. Never a failure."""

    code = "RK204"


class ServerUnavailable(ReefknotError):
    """The server cannot be reached: nothing was sent, or the request would not have changed anything."""

    code = "RK208"


class BarrierMissing(ReefknotError):
    """The barrier's table does not exist in this database."""

    code = "RK209"


class WorkflowChanged(ReefknotError):
    """The code of a workflow differs from what this transaction has recorded."""

    code = "RK210"
