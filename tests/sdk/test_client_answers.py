"""What a program is told for each answer of a server: honest, with the gid, and with what to do next.

The server is scripted here, to answer like DTM's or not at all; all of it goes over real sockets.
"""

import contextlib
import json
import socket

import pytest
from fastapi import FastAPI

from reefknot import (
    AsyncClient,
    Client,
    Failure,
    GidConflict,
    Invalid,
    NotFound,
    Ongoing,
    OutcomeUnknown,
    Refused,
    RolledBack,
    ServerUnavailable,
)
from reefknot.errors import ConfigError
from reefknot.model import Status
from reefknot.testing.grpc_participant import GrpcParticipant
from reefknot.testing.grpc_participant import Say as GrpcSay
from reefknot.testing.participant import HANG_UP, Participant, Say
from reefknot.testing.server import LocalServer, ServerProcess, free_port
from reefknot.testing.services import serving
from sdk.client_faces import FACES, open_client

ROUTES = "/api/dtmsvr"
WAIT_FAILED = b'{"dtm_result":"FAILURE","message":"wait result not return success: FAILURE"}'


@pytest.fixture
def dtm():
    """A scripted DTM server."""
    with Participant() as dtm:
        yield dtm


@pytest.fixture(params=FACES)
def face(request):
    return request.param


@pytest.fixture
def client(face, dtm):
    with open_client(face, dtm.url(""), timeout=1) as client:
        yield client


def saga(client, **options):
    made = client.saga("g-1", **options)
    made.step("http://bank/out", "http://bank/undo")
    return made


def called(dtm):
    return [call.path.rpartition("/")[2] for call in dtm.calls]


def message(text, result="FAILURE"):
    return json.dumps({"dtm_result": result, "message": text}).encode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Say(500, b'{"message":"driver: bad connection"}'), "bad connection"),
        (Say(502, b"bad gateway"), "502"),
        (Say(503, b'{"message":"the store is not available"}'), "503"),
        (Say(408), "408"),
        (Say(seconds=1.6), "imeout"),
        (HANG_UP, "no clear answer"),
    ],
    ids=["500", "502", "503", "408", "timeout", "hang up"],
)
def test_submit_without_a_clear_answer_is_unknown_and_never_aborted(client, dtm, answer, words):
    dtm.always(f"{ROUTES}/submit", answer)
    with pytest.raises(OutcomeUnknown) as caught:
        saga(client).submit()
    text = str(caught.value)
    assert caught.value.gid == "g-1"
    assert words in text
    assert "repeat submit with the same gid" in text
    assert "RK204" in text
    assert called(dtm) == ["submit"]


@pytest.mark.parametrize("mode", ["tcc", "xa"])
def test_unknown_submit_at_the_end_of_a_block_does_not_abort(client, dtm, mode):
    dtm.always(f"{ROUTES}/submit", HANG_UP)
    with pytest.raises(OutcomeUnknown) as caught, getattr(client, mode)("g-1"):
        pass
    assert caught.value.gid == "g-1"
    assert called(dtm) == ["prepare", "submit"]


def test_unknown_try_leaves_the_block_and_aborts(client, dtm):
    dtm.always("/try", HANG_UP)
    with pytest.raises(OutcomeUnknown) as caught, client.tcc("g-1") as tcc:
        tcc.try_(dtm.url("/try"), confirm="http://bank/c", cancel="http://bank/x")
    assert (caught.value.branch_id, caught.value.url) == ("01", dtm.url("/try"))
    assert called(dtm) == ["prepare", "registerBranch", "try", "abort"]
    assert json.loads(dtm.calls[-1].body)["rollback_reason"].startswith("OutcomeUnknown: the branch gave no")


def test_abort_without_an_answer_leaves_the_exception_and_a_note(client, dtm):
    dtm.always(f"{ROUTES}/abort", Say(500))
    with pytest.raises(KeyError) as caught, client.tcc("g-1"):
        raise KeyError("order")
    assert "tcc g-1: the abort was not confirmed" in caught.value.__notes__[0]


@pytest.mark.conformance("TestTccCoverNotConnected")
def test_nothing_is_sent_to_a_server_that_is_not_there(face):
    url = f"http://127.0.0.1:{free_port()}"
    with open_client(face, url) as client, pytest.raises(ServerUnavailable) as caught:
        saga(client).submit()
    assert "nothing was sent" in str(caught.value)
    assert caught.value.url == f"{url}{ROUTES}"
    with open_client(face, "http://no-such-host.invalid") as client, pytest.raises(ServerUnavailable):
        client.tcc().__enter__()


def test_nothing_is_sent_over_grpc_to_a_server_that_is_not_there(face):
    with open_client(face, f"grpc://127.0.0.1:{free_port()}") as client, pytest.raises(ServerUnavailable) as caught:
        saga(client).submit()
    assert "nothing was sent" in str(caught.value)


def test_branch_that_is_not_there_is_told_and_aborted(client, dtm):
    url = f"http://127.0.0.1:{free_port()}/try"
    with pytest.raises(ServerUnavailable) as caught, client.tcc("g-1") as tcc:
        tcc.try_(url, confirm="http://bank/c", cancel="http://bank/x")
    assert caught.value.url == url
    assert called(dtm)[-1] == "abort"


@pytest.mark.parametrize("ending", ["hang up", "silence"])
def test_grpc_server_that_gives_no_answer_is_unknown(face, ending):
    say = GrpcSay(hang_up=True) if ending == "hang up" else GrpcSay(seconds=1.5)
    with GrpcParticipant() as dtm, open_client(face, f"grpc://{dtm.url('')}".rstrip("/"), timeout=0.5) as client:
        dtm.always("/dtmgimp.Dtm/Submit", say)
        with pytest.raises(OutcomeUnknown) as caught:
            saga(client).submit()
        assert caught.value.gid == "g-1"
        assert [call.path for call in dtm.calls] == ["/dtmgimp.Dtm/Submit"]


def test_new_gid_is_asked_for_again_and_nothing_else_is(client, dtm):
    dtm.script(f"{ROUTES}/newGid", [Say(503), Say(500), Say(body=b'{"gid":"abc"}')])
    assert client.new_gid() == "abc"
    dtm.always(f"{ROUTES}/newGid", Say(503))
    with pytest.raises(ServerUnavailable):
        client.new_gid()
    assert called(dtm) == ["newGid"] * 6
    dtm.always(f"{ROUTES}/query", Say(503))
    with pytest.raises(ServerUnavailable, match="repeat it later"):
        client.get("g-1")
    assert called(dtm).count("query") == 1


@pytest.mark.parametrize(
    ("text", "kind", "status"),
    [
        ("current status 'failed', cannot sumbmit.  FAILURE", Refused, "failed"),
        ("current status 'succeed', cannot sumbmit. FAILURE", Refused, "succeed"),
        ("gid 'g-1' was submitted with other content. FAILURE", GidConflict, ""),
        ("gid 'g-1' is a tcc, not a saga. FAILURE", GidConflict, ""),
        ("whatever FAILURE", Refused, ""),
    ],
)
def test_definite_no_without_wait_is_refused(client, dtm, text, kind, status):
    dtm.always(f"{ROUTES}/submit", Say(409, message(text)))
    with pytest.raises(Refused) as caught:
        saga(client).submit()
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert "FAILURE" not in str(caught.value)
    assert called(dtm) == ["submit"]


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        ("failed", RolledBack),
        ("aborting", RolledBack),
        ("submitted", Ongoing),
        ("prepared", Ongoing),
        ("succeed", None),
    ],
)
def test_conflict_over_a_wait_is_looked_into_because_dtm_says_it_of_the_unfinished_too(client, dtm, stored, kind):
    dtm.always(f"{ROUTES}/submit", Say(409, WAIT_FAILED))
    found = {"gid": "g-1", "trans_type": "saga", "status": stored, "rollback_reason": "no stock FAILURE"}
    dtm.always(f"{ROUTES}/query", Say(body=json.dumps({"transaction": found, "branches": []}).encode()))
    if kind is None:
        assert saga(client, wait=True).submit().status is Status.SUCCEED
        return
    with pytest.raises(kind) as caught:
        saga(client, wait=True).submit()
    assert caught.value.gid == "g-1"
    assert kind is not RolledBack or caught.value.reason == "no stock"


def test_conflict_over_a_wait_is_read_where_nobody_can_be_asked(client, dtm):
    dtm.always(f"{ROUTES}/query", Say(404))
    dtm.always(f"{ROUTES}/submit", Say(409, WAIT_FAILED))
    with pytest.raises(Ongoing):
        saga(client, wait=True).submit()
    dtm.always(f"{ROUTES}/submit", Say(409, message("no stock FAILURE")))
    with pytest.raises(RolledBack, match="no stock"):
        saga(client, wait=True).submit()


def test_unfinished_over_a_wait_is_ongoing(client, dtm):
    dtm.always(f"{ROUTES}/submit", Say(425, message("still running ONGOING", "ONGOING")))
    with pytest.raises(Ongoing) as caught:
        saga(client, wait=True).submit()
    assert "client.wait('g-1')" in str(caught.value)


def test_old_servers_say_failure_with_200(client, dtm):
    dtm.always(f"{ROUTES}/submit", Say(200, message("current status 'failed', cannot sumbmit. FAILURE")))
    with pytest.raises(Refused):
        saga(client).submit()
    dtm.always(f"{ROUTES}/submit", Say(200))
    dtm.always("/try", Say(200, b'{"dtm_result":"FAILURE","message":"no stock"}'))
    with pytest.raises(Failure, match="no stock"), client.tcc() as tcc:
        tcc.try_(dtm.url("/try"), confirm="http://bank/c", cancel="http://bank/x")
    dtm.always("/try", Say(201, b'{"note":"the word FAILURE in a text is no failure"}'))
    with client.tcc() as tcc:
        assert tcc.try_(dtm.url("/try"), confirm="http://bank/c", cancel="http://bank/x").status == 201


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"dtm_result":"FAILURE","message":"no stock"}', "no stock"),
        (b'{"dtm_result":"FAILURE","message":""}', '{"dtm_result":"FAILURE","message":""}'),
        (b'{"message":"no stock"}', '{"message":"no stock"}'),
        (b"no stock FAILURE", "no stock"),
        (b'{"dtm_result":"FAILURE","message":' + b"[" * 300, '{"dtm_result":"FAILURE","message":' + "[" * 300),
    ],
    ids=["message", "no words", "another form", "text", "no JSON"],
)
def test_the_reason_of_a_branch_is_its_words(client, dtm, body, reason):
    dtm.always("/try", Say(409, body))
    with pytest.raises(Failure) as caught, client.tcc() as tcc:
        tcc.try_(dtm.url("/try"), confirm="http://bank/c", cancel="http://bank/x")
    assert caught.value.reason == reason
    assert json.loads(dtm.calls[-1].body)["rollback_reason"] == reason
    dtm.always("/try", Say(425, b'{"dtm_result":"ONGOING","message":"in review"}'))
    with pytest.raises(Ongoing) as waiting, client.tcc() as tcc:
        tcc.try_(dtm.url("/try"), confirm="http://bank/c", cancel="http://bank/x")
    assert waiting.value.note == "in review"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Say(400, b'{"message":"steps[0].action: is empty; give one"}'), Invalid),
        (Say(413, b'{"message":"too large"}'), Invalid),
        (Say(404, b"404 page not found"), Invalid),
        (Say(302, headers=(("Location", "http://127.0.0.1:1/"),)), Invalid),
        (Say(401, b'{"message":"no token"}'), Refused),
        (Say(403, b"forbidden"), Refused),
        (Say(429, b"slow down"), ServerUnavailable),
        (Say(500, b'{"message":"topic not found"}'), NotFound),
    ],
    ids=["400", "413", "404", "redirect", "401", "403", "429", "topic"],
)
@pytest.mark.parametrize("wait", [False, True])
def test_request_that_was_not_carried_out_says_so(client, dtm, answer, kind, wait):
    dtm.always(f"{ROUTES}/submit", answer)
    with pytest.raises(kind) as caught:
        saga(client, wait=wait).submit()
    assert type(caught.value) is kind
    assert called(dtm) == ["submit"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": -32901, "message": "current status 'failed', cannot sumbmit. FAILURE"}, Refused),
        ({"code": -32902, "message": "still running"}, Ongoing),
        ({"code": -32603, "message": "gid 'g-1' is still running ONGOING"}, Ongoing),
        ({"code": -32603, "message": "driver: bad connection"}, OutcomeUnknown),
        ({"code": -32603, "message": "topic not found"}, NotFound),
        ({"code": -32601, "message": "Method not found: submit"}, Invalid),
    ],
)
def test_json_rpc_errors(face, dtm, error, kind):
    body = {"jsonrpc": "2.0", "id": "1", "result": None, "error": error}
    dtm.always("/api/json-rpc", Say(200, json.dumps(body).encode()))
    with open_client(face, dtm.url("/api/json-rpc")) as client, pytest.raises(kind) as caught:
        saga(client).submit()
    assert type(caught.value) is kind
    dtm.always("/api/json-rpc", Say(200, b"<html>"))
    with open_client(face, dtm.url("/api/json-rpc")) as client, pytest.raises(OutcomeUnknown):
        saga(client).submit()


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (GrpcSay("ABORTED", "current status 'failed', cannot sumbmit. FAILURE"), Refused),
        (GrpcSay("ABORTED", "ONGOING"), Ongoing),
        (GrpcSay("FAILED_PRECONDITION", "still running ONGOING"), Ongoing),
        (GrpcSay("INTERNAL", "dtm panic: topic not found"), NotFound),
        (GrpcSay("INTERNAL", "runtime error"), OutcomeUnknown),
        (GrpcSay("UNAVAILABLE", "the store is not available"), OutcomeUnknown),
        (GrpcSay("INVALID_ARGUMENT", "gid: is too long"), Invalid),
        (GrpcSay("UNAUTHENTICATED", "no token"), Refused),
    ],
    ids=lambda value: value.status if isinstance(value, GrpcSay) else value.__name__,
)
def test_grpc_codes(face, say, kind):
    with GrpcParticipant() as dtm, open_client(face, f"grpc://{dtm.url('')}".rstrip("/")) as client:
        dtm.always("/dtmgimp.Dtm/Submit", say)
        with pytest.raises(kind) as caught:
            saga(client).submit()
        assert type(caught.value) is kind


def test_verbs_that_a_dtm_server_lacks_say_so(face):
    with GrpcParticipant() as dtm, open_client(face, f"grpc://{dtm.url('')}".rstrip("/")) as client:
        dtm.always("/reefknot.v1.Transactions/Get", GrpcSay("UNIMPLEMENTED", "unknown service"))
        with pytest.raises(Invalid, match=r"the server has no reefknot\.v1\.Transactions/Get over gRPC"):
            client.get("g-1")


def test_dtm_server_that_cannot_wait_is_asked_again_and_again(client, dtm):
    def answer(status):
        found = {"gid": "g-1", "trans_type": "saga", "status": status}
        return Say(body=json.dumps({"transaction": found, "branches": None}).encode())

    dtm.always(f"{ROUTES}/wait", Say(404, b"404 page not found"))
    dtm.script(f"{ROUTES}/query", [answer("submitted"), answer("submitted"), answer("succeed")])
    assert client.wait("g-1", timeout=10).status is Status.SUCCEED
    assert called(dtm) == ["wait", "query", "query", "query"]


@pytest.mark.crash
def test_submit_whose_reply_is_lost_happened_and_can_be_repeated(face, tmp_path):
    """A real server stores the saga and hangs up: the client does not know, and says so."""
    # The first reply is the ping of the start.
    lost = {"api.before_ack": "drop@2"}
    with Participant() as bank, ServerProcess(f"sqlite:///{tmp_path}/s.db", failpoints=lost) as server:
        with open_client(face, server.url.removesuffix(ROUTES)) as client:
            made = client.saga()
            made.step(bank.url("/out"))
            with pytest.raises(OutcomeUnknown):
                made.submit()
            assert made.submit().gid == made.gid
            assert client.wait(made.gid).status is Status.SUCCEED
        assert [call.op for call in bank.calls] == ["action"]


def test_what_is_secret_in_a_url_is_not_in_the_text(face, dtm):
    """The text goes into logs; whoever catches the error has the whole URL."""
    url = f"http://me:pass@127.0.0.1:{dtm.port}/out?token=s3cret"
    dtm.always("/out", Say(500))
    with open_client(face, dtm.url("")) as client, pytest.raises(OutcomeUnknown) as caught, client.tcc("g-1") as tcc:
        tcc.try_(url, confirm=dtm.url("/confirm"), cancel=dtm.url("/cancel"))
    assert caught.value.url == url
    assert f"url: http://127.0.0.1:{dtm.port}/out\n" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:36789", "names no server"),
        ("ftp://h", "names no server"),
        ("http://", "names no server"),
        ("http://h:port", "is no URL"),
        ("http://[h", "is no URL"),
        ("htp://bob:secret@host:1", "headers="),
        ("bob:secret@host:36789", "headers="),
        ("http://bob:secret@host:abc", "headers="),
        ("http://bob:secret]@host:1", "headers="),
        ("http://h/?a=1", "query"),
        ("http://user:secret@h", "headers="),
        ("grpc://h", "needs a port"),
        ("grpc://h:1/path", "needs a port"),
    ],
)
def test_wrong_server_url_is_named(url, words):
    for make in (Client, AsyncClient):
        with pytest.raises(Invalid, match=words) as caught:
            make(url)
        assert "secret" not in str(caught.value)


def test_server_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("DTM_SERVER", "http://dtm.internal:8080/api/json-rpc")
    assert Client().server.address.url == "http://dtm.internal:8080/api/json-rpc"
    monkeypatch.delenv("DTM_SERVER")
    assert AsyncClient().server.address.url == "http://127.0.0.1:36789/api/dtmsvr"


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.protobuf.empty_pb2", None)
    monkeypatch.delitem(__import__("sys").modules, "reefknot.client.protocols.grpc", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'reefknot\[grpc\]'"):
        Client("grpc://127.0.0.1:1")


@pytest.mark.parametrize("path", ["", "/api", "/api/json-rpc"])
def test_url_of_another_program_says_what_to_correct(face, path):
    """A web application that knows nothing of transactions, and a server of ours with a path too many."""
    with serving(FastAPI()) as other, open_client(face, f"{other}{path}") as client:
        says_how_to_correct_the_url(lambda: saga(client).submit(), "submit")
        says_how_to_correct_the_url(lambda: client.get("g-1"), "query")
    with LocalServer() as server, open_client(face, server.url.removesuffix("/dtmsvr") + path) as client:
        says_how_to_correct_the_url(lambda: saga(client).submit(), "submit")


def says_how_to_correct_the_url(work, verb):
    with pytest.raises(Invalid, match=f"{verb} was not carried out: HTTP 404 ") as caught:
        work()
    text = str(caught.value)
    assert "(RK211)" in text
    assert "\n  gid: g-1  url: http://127.0.0.1:" in text
    assert "\n  next: check the URL ($DTM_SERVER, or the client's first argument): http://host:36789, " in text
    assert text.endswith("more: docs/errors.md#rk211")


def test_request_that_the_server_refuses_has_a_code_and_a_way_on(client, dtm):
    dtm.always(f"{ROUTES}/submit", Say(400, b'{"message":"steps[0].action: is empty; give one"}'))
    with pytest.raises(Invalid) as caught:
        saga(client).submit()
    text = str(caught.value)
    assert "steps[0].action: is empty; give one (RK211)" in text
    assert "\n  next: correct what the text names" in text


@pytest.mark.parametrize("path", ["", "/api/json-rpc"])
def test_grpc_port_is_recognized(face, path):
    with LocalServer(grpc=True) as server, open_client(face, f"http://{server.grpc_address}{path}") as client:
        for verb, work in (
            ("submit", lambda: saga(client).submit()),
            ("newGid", client.new_gid),
            ("query", lambda: client.get("g-1")),
        ):
            with pytest.raises(ServerUnavailable, match=f"{verb} was not carried out: .* like a gRPC port") as caught:
                work()
            assert f"next: over gRPC a server is grpc://{server.grpc_address}, and a branch" in str(caught.value)


def test_slow_connection_gives_up_in_time(face):
    """A host that takes no connection: nothing was sent, and not for longer than asked for."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        fillers = [socket.socket() for _ in range(4)]
        with contextlib.ExitStack() as stack:
            for filler in fillers:
                stack.callback(filler.close)
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            with open_client(face, url, timeout=0.5) as client, pytest.raises((ServerUnavailable, OutcomeUnknown)):
                saga(client).submit()
