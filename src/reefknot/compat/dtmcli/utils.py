"""Gids, branch ids and answers."""

from __future__ import annotations

from typing import Any

from reefknot.client.branches import BranchIds
from reefknot.compat.dtmcli.servers import DTMFailureError, client_of, note_spelling
from reefknot.errors import Ongoing, OutcomeUnknown
from reefknot.model import Failure as FailureOutcome
from reefknot.model import Ongoing as OngoingOutcome
from reefknot.model import Success, Unknown
from reefknot.wire import names
from reefknot.wire.outcome import Matching, http_outcome

__all__ = ["DTMFailureError", "IdGenerator", "check_result", "gen_gid", "sqlexec"]


class IdGenerator:
    """Branch ids: 01, 02, … behind the parent's.

    Args:
        parent_id: the branch whose branches these are; empty at the top.
    """

    def __init__(self, parent_id: str = "") -> None:
        self.parent_id = parent_id
        self.branch_id: int = 0
        self._ids = BranchIds(parent_id)

    def new_branch_id(self) -> str:
        """The next one.

        Raises:
            Invalid: the 99 ids of this level are used up, or it is nested too deeply.
        """
        new = self._ids.next()
        self.branch_id += 1
        return new


def check_result(http_result: Any) -> None:
    """Return if an answer says success.

    Args:
        http_result: a response with ``status_code`` and ``text``.

    Raises:
        DTMFailureError: it is a definite no: 409, or a body that says FAILURE.
        Ongoing: it is not finished: 425, or a body that says ONGOING.
        OutcomeUnknown: anything else than a 2xx.
    """
    note_spelling("utils.check_result", "the client reads answers itself")
    outcome = http_outcome(http_result.status_code, http_result.text.encode(), Matching.EXACT)
    match outcome:
        case Success():
            return
        case FailureOutcome(reason):
            raise DTMFailureError(reason.removesuffix(names.FAILURE).rstrip() or names.FAILURE)
        case OngoingOutcome(note):
            raise Ongoing(note)
        case Unknown(error):
            raise OutcomeUnknown(error)


def gen_gid(dtm: str) -> str:
    """A new gid, made by the server.

    Raises:
        ServerUnavailable: nobody answered.
    """
    note_spelling("utils.gen_gid(dtm)", "Client(url).new_gid(), or leave the gid out")
    return client_of(dtm).new_gid()


def sqlexec(cursor: Any, sql: str) -> int:
    """Execute a statement; an empty one does nothing.

    Args:
        cursor: of any DB-API library.
        sql: the statement, whole: values belong into ``cursor.execute(sql, values)`` instead.

    Returns:
        How many rows it changed.
    """
    note_spelling("utils.sqlexec(cursor, sql)", "cursor.execute(sql, values)")
    if not sql.strip():
        return 0
    cursor.execute(sql)
    return int(cursor.rowcount)
