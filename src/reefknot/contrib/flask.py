"""Flask.

app = Flask(__name__)
install(app)
app.register_blueprint(asked(connect))

@app.post("/out")
def out():
    with closing(connect()) as connection:
        branch().call(connection, lambda connection: ...)
    return {}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, abort, request
from werkzeug.exceptions import InternalServerError

from reefknot.barrier import Barrier, Branch
from reefknot.client.ambient import Ambient, entered
from reefknot.contrib.answers import Said, no_branch_call, said, unexpected
from reefknot.contrib.checkback import CheckBack
from reefknot.errors import Failure, Invalid, Ongoing
from reefknot.workflows import Workflows


def install(app: Flask, *, show_errors: bool = False) -> None:
    """Make the app answer as a branch: ``Failure`` is a 409, ``Ongoing`` a 425; other exceptions stay a 500.

    Calls that the app makes with the SDK while it serves a branch carry that call's trace.

    Args:
        app: the application.
        show_errors: whether a 500 says the exception's type and text, which the server then keeps with the
            transaction. For an app that only the server can reach.
    """
    app.register_error_handler(Failure, _answer)
    app.register_error_handler(Ongoing, _answer)
    if show_errors:
        app.register_error_handler(InternalServerError, _show)
    app.wsgi_app = AmbientMiddleware(app, app.wsgi_app)  # type: ignore[method-assign] # Flask's way to add one


def branch(*, table: str = "") -> Barrier:
    """The barrier of the branch call that is served. A view that is ``async`` makes its own from ``branch_of()``.

    Args:
        table: the barrier's table; the usual one if empty.

    Raises:
        werkzeug.exceptions.BadRequest: 400: the query parameters name no branch.
    """
    named = branch_of()
    return Barrier(named.trans_type, named.gid, named.branch_id, named.op, table=table)


def branch_of() -> Branch:
    """Which branch is called, by the query parameters.

    Raises:
        werkzeug.exceptions.BadRequest: 400: they name no branch.
    """
    try:
        return Branch.from_query(request.args)
    except Invalid as error:
        abort(400, no_branch_call(error))


def asked(
    source: Any, path: str = "/asked", *, table: str = "", prefix: str = "", name: str = "reefknot_asked"
) -> Blueprint:
    """A blueprint that answers the server's question whether a message's local transaction committed.

    Args:
        source: gives connections to the database of the local transaction; see ``CheckBack``. Sync.
        path: where it is; ``ask=`` of the message is its whole URL.
        table: the barrier's table; the usual one if empty.
        prefix: of the barrier's keys in Redis.
        name: the blueprint's, for an app with several.

    Raises:
        Invalid: connections cannot be got from the source, or the table's name cannot stand in a statement.
    """
    check_back = CheckBack(source, table=table, prefix=prefix)
    blueprint = Blueprint(name, __name__)

    def answer() -> Response:
        try:
            check_back.answer(branch_of())
        except (Failure, Ongoing) as error:
            return _response(said(error))
        return Response()

    blueprint.add_url_rule(path, "answer", answer, methods=["GET", "POST"])
    return blueprint


def workflows(flows: Workflows, path: str = "/workflow", *, name: str = "reefknot_workflows") -> Blueprint:
    """A blueprint by which the server resumes workflows.

    Args:
        flows: the workflows of this program.
        path: where it is; ``callback=`` of the workflows is its whole URL.
        name: the blueprint's, for an app with several.
    """
    blueprint = Blueprint(name, __name__)

    def answer() -> Response:
        resumed = flows.handle(request.args, request.get_data())
        return Response(resumed.body, resumed.status, mimetype="application/json")

    blueprint.add_url_rule(path, "answer", answer, methods=["GET", "POST"])
    return blueprint


class AmbientMiddleware:
    """Enters the ambient transaction of each call; ``install`` adds it.

    Args:
        app: reads the requests.
        wsgi_app: what it stands in front of.
    """

    def __init__(self, app: Flask, wsgi_app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        incoming = self._app.request_class(environ, populate_request=False)
        headers: Mapping[str, str] = dict(incoming.headers)
        with entered(Ambient.of_call(incoming.args, headers)):
            return self._wsgi_app(environ, start_response)


def _answer(error: Failure | Ongoing) -> Response:
    return _response(said(error))


def _show(error: InternalServerError) -> Response:
    return _response(unexpected(error.original_exception or error))


def _response(answer: Said) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), mimetype="application/json")
