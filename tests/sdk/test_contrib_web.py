"""Branches in web frameworks, called by a real server over real sockets."""

import contextlib
import http.client
import json
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from reefknot import Client
from reefknot.model import Status
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer
from reefknot.testing.services import serving
from sdk.contrib_apps import APPS, Ledger, create, message_barrier

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#: Django as a WSGI and as an ASGI application.
DJANGO = {"django": "wsgi", "django-async": "asgi"}


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def participant():
    with Participant() as participant:
        yield participant


@pytest.fixture
def identity():
    """What the server appends to a branch's URL, for a transaction of this test's own."""
    return {"gid": secrets.token_hex(8), "trans_type": "saga", "branch_id": "01", "op": "action"}


@pytest.fixture(params=[*sorted(APPS), *sorted(DJANGO)], scope="module")
def framework(request):
    return request.param


@contextlib.contextmanager
def started(framework, path, server, participant, **options):
    ledger = Ledger(path, server.url, participant.url("/receive"))
    if framework in DJANGO:
        with django_service(ledger, DJANGO[framework], options) as ledger.url:
            yield ledger
        return
    create(path)
    with serving(APPS[framework](ledger, **options)) as url:
        ledger.url = url
        yield ledger


@pytest.fixture(scope="module")
def ledger(framework, tmp_path_factory, server, participant):
    with started(framework, tmp_path_factory.mktemp(framework) / "ledger.db", server, participant) as ledger:
        yield ledger


@contextlib.contextmanager
def django_service(ledger, kind, options):
    """Django in a process of its own; its migration makes the barrier's table."""
    settings = json.dumps({f"REEFKNOT_{name.upper()}": value for name, value in options.items()})
    arguments = [ledger.path, ledger.server_url, ledger.receiver, settings, kind]
    command = [sys.executable, str(Path(__file__).with_name("django_service.py")), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert url, "the service did not start; its error is in the captured output"
        yield url
        process.stdin.close()


def call(ledger, method, path, query=None, **headers):
    """One request as the server makes it: status, headers, body."""
    parts = urlsplit(ledger.url)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)) as connection:
        target = f"{path}?{urlencode(query)}" if query else path
        connection.request(method, target, None if method == "GET" else b"{}", headers)
        response = connection.getresponse()
        return response.status, dict(response.headers.items()), response.read()


def seen(ledger, gid):
    """The ambient transactions of a transaction's calls."""
    return [one for one in json.loads(call(ledger, "GET", "/seen")[2]) if one[0] == gid]


def test_a_saga_runs_each_branch_once(ledger, client):
    with client.saga(wait=True) as saga:
        saga.step(f"{ledger.url}/add", f"{ledger.url}/add/undo", {})
        saga.step(f"{ledger.url}/add", f"{ledger.url}/add/undo", {})
    assert saga.outcome.status is Status.SUCCEED
    assert ledger.effects(saga.gid) == ["01 action", "02 action"]


def test_a_repeated_call_is_answered_200_and_does_nothing(ledger, identity):
    for _ in range(3):
        assert call(ledger, "POST", "/add", identity)[0] == 200
    assert ledger.effects(identity["gid"]) == ["01 action"]
    # An undo of what never came, and then the late action.
    late = identity | {"branch_id": "02"}
    assert call(ledger, "POST", "/add/undo", late | {"op": "compensate"})[0] == 200
    assert call(ledger, "POST", "/add", late)[0] == 200
    assert ledger.effects(identity["gid"]) == ["01 action"]


def test_a_failure_is_a_409_and_rolls_everything_back(ledger, client, server, identity):
    saga = client.saga()
    saga.step(f"{ledger.url}/add", f"{ledger.url}/add/undo", {})
    saga.step(f"{ledger.url}/refuse", f"{ledger.url}/add/undo", {})
    saga.submit()
    assert server.wait_for(saga.gid, "failed") == "failed"
    assert "not enough money" in client.get(saga.gid).reason
    # The refusing branch's own work went with its local transaction, so there was nothing to undo there.
    assert ledger.effects(saga.gid) == ["01 action", "01 compensate"]

    status, headers, body = call(ledger, "POST", "/refuse", identity)
    assert (status, json.loads(body)) == (409, {"dtm_result": "FAILURE", "message": "not enough money"})
    assert headers["content-type" if "content-type" in headers else "Content-Type"] == "application/json"


def test_ongoing_is_a_425_and_is_asked_again(ledger, client, server, identity):
    status, headers, body = call(ledger, "POST", "/review", identity)
    assert (status, json.loads(body)) == (425, {"dtm_result": "ONGOING", "message": "waiting for review"})
    assert {name.lower(): value for name, value in headers.items()}["retry-after"] == "3"

    saga = client.saga()
    saga.step(f"{ledger.url}/review", f"{ledger.url}/add/undo", {})
    saga.submit()
    server.settle()
    assert (server.status(saga.gid), ledger.effects(saga.gid)) == ("submitted", [])
    assert call(ledger, "POST", "/review/done")[0] == 200
    server.cron()
    assert server.wait_for(saga.gid, "succeed") == "succeed"
    assert ledger.effects(saga.gid) == ["01 action"]


@pytest.mark.parametrize("missing", ["branch_id", "gid", "op", "trans_type"])
def test_a_request_that_names_no_branch_is_a_400(ledger, missing, identity):
    query = {name: value for name, value in identity.items() if name != missing}
    status, _, body = call(ledger, "POST", "/add", query)
    assert status == 400
    assert f"{missing}: is missing in the query".encode() in body
    assert call(ledger, "GET", "/asked", query)[0] == 400
    assert ledger.effects(identity["gid"]) == []


def test_another_exception_is_a_500_that_tells_nothing(ledger, client, server, identity):
    status, _, body = call(ledger, "POST", "/break", identity)
    assert (status, b"ledger" in body) == (500, False)
    saga = client.saga()
    saga.step(f"{ledger.url}/break", "", {})
    saga.submit()
    server.settle()
    assert server.status(saga.gid) == "submitted"
    client.force_stop(saga.gid)


@pytest.mark.conformance("TestBaseHttp")
def test_another_exception_shows_its_text_where_it_may(framework, tmp_path, server, participant, identity):
    with started(framework, tmp_path / "ledger.db", server, participant, show_errors=True) as ledger:
        status, _, body = call(ledger, "POST", "/break", identity)
        assert (status, json.loads(body)) == (500, {"message": "ValueError: no such ledger"})
        assert call(ledger, "POST", "/refuse", identity)[0] == 409
        assert call(ledger, "POST", "/add", {})[0] == 400
        assert call(ledger, "GET", "/nowhere")[0] == 404


def test_a_check_back_after_a_commit_delivers_the_message(ledger, client, server, participant):
    msg = client.msg().send(participant.url("/receive"), {})
    msg.prepare(f"{ledger.url}/asked")
    with contextlib.closing(ledger.connect()) as connection, connection:
        assert message_barrier(msg.gid).passes(connection)
    server.cron(plus=60)
    assert server.wait_for(msg.gid, "succeed") == "succeed"


def test_a_check_back_without_a_commit_drops_the_message_for_good(ledger, client, server, participant):
    msg = client.msg().send(participant.url("/dropped"), {})
    msg.prepare(f"{ledger.url}/asked")
    server.cron(plus=60)
    assert server.wait_for(msg.gid, "failed") == "failed"
    with contextlib.closing(ledger.connect()) as connection, connection:
        assert not message_barrier(msg.gid).passes(connection)
    assert not [one for one in participant.calls if one.path == "/dropped"]


def test_what_a_branch_sends_belongs_to_its_trace(ledger, client, server, participant, identity):
    with client.saga(wait=True, headers={"traceparent": TRACE}) as saga:
        saga.step(f"{ledger.url}/add", "", {})
        saga.step(f"{ledger.url}/forward", "", {})
    assert seen(ledger, saga.gid) == [[saga.gid, "saga", "01", "action", TRACE]]
    server.settle()
    received = [one for one in participant.calls if one.path == "/receive"][-1]
    assert {name.lower(): value for name, value in received.headers.items()}["traceparent"] == TRACE
    # The next call is not part of it.
    call(ledger, "POST", "/add", identity)
    assert seen(ledger, identity["gid"]) == [[identity["gid"], "saga", "01", "action", ""]]
