"""Views that the server calls: the check-back of a message, and the callback of workflows."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from reefknot.contrib.answers import said
from reefknot.contrib.django.branches import View, branch
from reefknot.contrib.django.middleware import response
from reefknot.errors import Failure, Ongoing
from reefknot.workflows import Workflows


def asked_in(using: str) -> View:
    """A view that answers the server's question whether a message's local transaction committed.

    Args:
        using: the database of the local transaction, by its alias.
    """

    # Its answer is committed before it is given, so it takes no part in ATOMIC_REQUESTS.
    @transaction.non_atomic_requests(using=using)  # type: ignore[untyped-decorator] # Django has no types
    @require_http_methods(["GET", "POST"])  # type: ignore[untyped-decorator] # as above
    @branch
    def answer(request: HttpRequest) -> HttpResponse:
        try:
            request.barrier.asked(connections[using])
        except (Failure, Ongoing) as error:
            return response(said(error))
        return HttpResponse()

    view: View = answer
    return view


#: The same for the default database.
asked: View = asked_in(DEFAULT_DB_ALIAS)


def workflows(flows: Workflows) -> View:
    """A view by which the server resumes workflows.

        urlpatterns = [path("workflow", workflows(flows))]

    Args:
        flows: the workflows of this program; ``callback=`` of them is the view's URL.
    """

    # A workflow leads its own local transactions.
    @transaction.non_atomic_requests  # type: ignore[untyped-decorator] # as above
    @require_http_methods(["GET", "POST"])  # type: ignore[untyped-decorator] # as above
    @csrf_exempt  # type: ignore[untyped-decorator] # as above
    def answer(request: HttpRequest) -> HttpResponse:
        resumed = flows.handle(request.GET, request.body)
        return HttpResponse(resumed.body, status=resumed.status, content_type="application/json")

    view: View = answer
    return view
