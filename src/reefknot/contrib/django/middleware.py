"""What surrounds every view: the ambient transaction, and the answers for the words of a branch."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest, HttpResponse

from reefknot.client.ambient import Ambient, entered
from reefknot.contrib.answers import Said, said, unexpected
from reefknot.errors import Failure, Ongoing


class BranchMiddleware:
    """``Failure`` from a view is a 409, ``Ongoing`` a 425; other exceptions stay what Django makes of them.

    With ``ATOMIC_REQUESTS`` the view's transaction is rolled back before that. Calls that the view makes
    with the SDK carry the trace of its own call.

    Args:
        get_response: the next middleware or the view, sync or async.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request."""
        if self._is_async:
            return self._serve(request)
        with entered(Ambient.of_call(request.GET, request.headers)):
            return self._get_response(request)

    async def _serve(self, request: HttpRequest) -> Any:
        with entered(Ambient.of_call(request.GET, request.headers)):
            return await self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer for an exception that left the view, or None to leave it to Django."""
        if isinstance(error, Failure | Ongoing):
            return response(said(error))
        if not getattr(settings, "REEFKNOT_SHOW_ERRORS", False):
            return None
        # Django logs it, tells its signals, and says which exceptions are no errors of the server.
        answer: HttpResponse = response_for_exception(request, error)
        return response(unexpected(error)) if answer.status_code == 500 else answer


def response(answer: Said) -> HttpResponse:
    """The answer as Django's."""
    return HttpResponse(
        answer.body, status=answer.status, headers=dict(answer.headers) | {"Content-Type": "application/json"}
    )
