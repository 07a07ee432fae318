"""What stands behind the old names: a client for each server's URL, the errors, the log of new spellings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from reefknot.client import Client
from reefknot.client._sync.client import DEFAULT_TIMEOUT
from reefknot.errors import Failure, Refused, RolledBack

_log = logging.getLogger("reefknot.compat")

#: Servers that one program talks to; a client beyond that is made anew.
_MOST_SERVERS = 64


class DTMFailureError(Failure):
    """A definite no: of a branch, or of the server to a request. Raise it in a business function to roll back."""


@lru_cache(maxsize=_MOST_SERVERS)
def client_of(url: str, timeout: float = DEFAULT_TIMEOUT) -> Client:
    """The client for a server; one for each, so that its connections are used again.

    Args:
        url: as dtmcli was given it, with ``/api/dtmsvr``.
        timeout: time limit of each request, in seconds.
    """
    return Client(url, timeout=timeout)


@contextmanager
def old_errors() -> Iterator[None]:
    """Raise ``DTMFailureError`` for what the server or a branch definitely refused, and all else as it is."""
    try:
        yield
    except DTMFailureError:
        raise
    except (Failure, Refused, RolledBack) as error:
        context = {"gid": error.gid, "branch_id": error.branch_id, "url": error.url, "advice": error.advice}
        raise DTMFailureError(error.what, **context) from error


@lru_cache
def note_spelling(old: str, new: str) -> None:
    """Log the new spelling of an old name, once in a process."""
    _log.warning("dtmcli's %s is now: %s", old, new)
