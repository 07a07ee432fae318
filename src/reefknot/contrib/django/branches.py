"""The barrier of the branch call that a view serves."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.views.decorators.csrf import csrf_exempt

from reefknot.barrier import Barrier, Branch
from reefknot.contrib.answers import no_branch_call
from reefknot.errors import Invalid

View = Callable[..., Any]


class DjangoBarrier(Barrier):
    """``Barrier`` with the connection of the default database where none is named."""

    def passes(self, connection: Any = None, *, part: int | None = None) -> bool:
        """Whether the operation runs now, for the first time and in order; see ``Barrier.passes``.

        Args:
            connection: one of ``django.db.connections``; the default database's if left out. Inside
                ``transaction.atomic``, or a view with ``ATOMIC_REQUESTS``.
            part: which piece of work of the view it is, from 1, where there are several.
        """
        return super().passes(connections[DEFAULT_DB_ALIAS] if connection is None else connection, part=part)


def branch(view: View) -> View:
    """Give a view the barrier of the call as ``request.barrier``; a request that names no branch gets a 400.

    Exempts the view from the CSRF check: the server has no cookie.

    Args:
        view: a function, sync or async. Django's connections are sync: an async view asks the barrier
            inside ``sync_to_async``, together with its work.
    """
    if iscoroutinefunction(view):

        @wraps(view)
        async def async_view(request: HttpRequest, *positional: Any, **named: Any) -> Any:
            refusal = _entered(request)
            return refusal if refusal is not None else await view(request, *positional, **named)

        return _exempt(async_view)

    @wraps(view)
    def sync_view(request: HttpRequest, *positional: Any, **named: Any) -> Any:
        refusal = _entered(request)
        return refusal if refusal is not None else view(request, *positional, **named)

    return _exempt(sync_view)


def barrier_table() -> str:
    """The barrier's table by the settings; empty for the usual one."""
    return str(getattr(settings, "REEFKNOT_BARRIER_TABLE", ""))


def _entered(request: HttpRequest) -> HttpResponse | None:
    """Give the request its barrier, or return the answer for one that names no branch."""
    try:
        named = Branch.from_query(request.GET)
    except Invalid as error:
        return HttpResponseBadRequest(no_branch_call(error), content_type="text/plain")
    request.barrier = DjangoBarrier(named.trans_type, named.gid, named.branch_id, named.op, table=barrier_table())
    return None


def _exempt(view: View) -> View:
    exempt: View = csrf_exempt(view)
    return exempt
