"""The one error tree.

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
    └── ConfigError         a setting is wrong: names the key and the fix

The numbers are what ``wire`` makes of them over HTTP.
"""

from __future__ import annotations


class ReefknotError(Exception):
    """Something Reefknot reports on purpose."""


class Refused(ReefknotError):
    """The current state of the transaction forbids this request."""


class GidConflict(Refused):
    """The gid is in use by a transaction with other content."""


class RolledBack(ReefknotError):
    """The transaction was rolled back; the decision is durable."""


class Unfinished(ReefknotError):
    """The transaction is not finished yet; its outcome is not known."""


class Invalid(ReefknotError):
    """The request cannot be accepted as it is.

    Args:
        field: the name of the field as the client sent it, for example ``steps[2].action``.
        problem: what is wrong with its value, in words.
        fix: what to send instead; may be empty where the problem says it already.
        status: the HTTP status; 400 unless DTM answers something else in this place.
    """

    def __init__(self, field: str, problem: str, fix: str = "", *, status: int = 400) -> None:
        text = f"{field}: {problem}" if field else problem
        super().__init__(f"{text}; {fix}" if fix else text)
        self.field = field
        self.problem = problem
        self.fix = fix
        self.status = status


class TooLarge(Invalid):
    """The request is larger than a documented limit."""

    def __init__(self, field: str, problem: str, fix: str = "") -> None:
        super().__init__(field, problem, fix, status=413)


class NotFound(ReefknotError):
    """There is no such transaction, topic or key."""


class Unavailable(ReefknotError):
    """It cannot be served now; nothing is known to have changed. Repeat the request later."""


class StoreUnavailable(Unavailable):
    """The store did not answer; whether the last write happened is not known."""


class Overloaded(Unavailable):
    """The server has more work than its limits allow; nothing was stored."""


class ConfigError(ReefknotError):
    """A setting is missing, wrong or unknown."""
