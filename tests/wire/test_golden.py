"""What DTM's official clients send, byte for byte, from their first request to the end of the transaction."""

from __future__ import annotations

import json
import socket
from http.client import HTTPResponse

import pytest

from reefknot.testing.participant import FAILURE, Participant
from reefknot.testing.server import LocalServer
from wire.golden_file import FOLDER, RULES, fill, read, read_trans_global

FILES = sorted(FOLDER.glob("*/*.http"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in FILES]


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def server(request, tmp_path_factory):
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path_factory.mktemp('golden')}/store.db"
    with LocalServer(url) as server:
        yield server


def send(address, request):
    """Send bytes on a connection of their own; the reply's status, content type and body."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.getheader("Content-Type"), response.read()


def shown(call):
    """A call of the business in the notation of the files."""
    body = call.body.decode()
    if "\n" in body:
        body = json.dumps(body)
    return " ".join([call.method, call.path, call.op or "-", call.branch_id, body or "-"])


def play(golden, exchange, server, business, names):
    """One request of the client, checked by the file and by the client's own rule."""
    if exchange.to_business:
        status, _, body = send(names["business"], exchange.on_the_wire(names))
        assert f"{status} {body.decode()}" == exchange.reply
        return
    status, content_type, body = send(names["server"], exchange.on_the_wire(names))
    assert content_type == "application/json; charset=utf-8"
    if exchange.name == "newGid":
        names["gid"] = json.loads(body)["gid"]
        assert len(names["gid"]) == 22
    kind, *rest = exchange.reply.split(" ")
    if kind == "TransGlobal":
        assert read_trans_global(body)["transaction"]["gid"] == names["gid"]
        # A query is read, not judged: what it says of a refused branch contains FAILURE.
        assert status == 200
        return
    if kind == "progresses":
        steps = json.loads(body)["progresses"]
        assert [f"{step['branch_id']}-{step['op']}-{step['status']}" for step in steps] == rest
    else:
        assert f"{status} {body.decode()}" == fill(exchange.reply, names)
    assert RULES[golden.accepts](status, body) == (kind != "409")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_conversation(server, path):
    golden = read(path)
    with Participant() as business:
        if golden.refuses:
            business.always(golden.refuses, FAILURE)
        names = {
            "server": server.url.removeprefix("http://").partition("/")[0],
            "business": business.url("").removeprefix("http://"),
            "gid": f"golden-{path.parent.name}-{path.stem}",
        }
        for exchange in golden.exchanges:
            play(golden, exchange, server, business, names)
        server.settle()
        if golden.later:
            assert server.status(names["gid"]) in ("prepared", "submitted")
            server.cron(golden.later, look_ahead=0)
            server.settle()
        assert server.status(names["gid"]) == golden.ends
        made = [shown(call) for call in business.calls if call.gid == names["gid"]]
    two_phase = path.stem.startswith(("tcc", "xa"))
    assert (sorted(made) if two_phase else made) == (sorted(golden.calls) if two_phase else golden.calls)


def test_every_client_is_there_with_success_and_rollback():
    modes = {name.split("/")[0]: set() for name in NAMES}
    for name in NAMES:
        client, flow = name.split("/")
        modes[client].add((flow.split("_")[0], read(FOLDER / f"{name}.http").ends))
    both = {"succeed", "failed"}
    wanted = {
        "python": "saga tcc msg",
        "php": "tcc",
        "node": "saga tcc msg",
        "java": "saga tcc",
        "csharp": "saga tcc xa msg",
        "go": "saga tcc xa msg workflow",
        "go_jsonrpc": "saga tcc",
    }
    for client, names in wanted.items():
        for mode in names.split():
            assert {(mode, end) for end in both} <= modes[client], client


def test_a_rule_refuses_what_its_client_refuses():
    refusal = (409, b'{"dtm_result":"FAILURE","message":"current status FAILURE"}')
    assert not any(RULES[name](*refusal) for name in ("200", "200 without FAILURE", "dtm_result SUCCESS"))
    assert not RULES["dtm_result SUCCESS"](200, b'{"gid":"1"}')
    assert not RULES["dtm_result SUCCESS"](200, b'{"dtm_result":"SUCCESS","message":"unknown to the client"}')
    assert not RULES["200 and error null"](200, b'{"error":{"code":-32901},"id":"no-use","jsonrpc":"2.0","result":{}}')
