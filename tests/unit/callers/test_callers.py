"""Which caller serves a branch, and the exact requests that the callers send."""

from __future__ import annotations

import json

import pytest

from reefknot.callers import Callers, discover
from reefknot.callers.base import BranchCall, CallerSettings
from reefknot.callers.http import HttpCaller
from reefknot.callers.jsonrpc import JsonRpcCaller
from reefknot.model import Failure, Success, Unknown
from reefknot.testing.raw_server import RawServer, answering, http_answer
from reefknot.wire.outcome import Matching

OK = http_answer(200, b"{}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings() -> CallerSettings:
    return CallerSettings(make_id=lambda: "id-1")


def branch_call(url: str, **changes: object) -> BranchCall:
    fields = {
        "gid": "g1",
        "mode": "saga",
        "branch_id": "01",
        "op": "action",
        "payload": b'{"amount":30}',
        "protocol": "http",
        "headers": {},
        "timeout_seconds": 1.0,
    }
    return BranchCall(url=url, **(fields | changes))


async def sent_request(callers: Callers, call: BranchCall, path: str) -> list[str]:
    """The lines of the request that a call sends to a path, port and all; the body is the last one."""
    async with RawServer(answering(OK)) as server:
        outcome = await callers.call(
            BranchCall(**{f: getattr(call, f) for f in call.__struct_fields__ if f != "url"}, url=server.url(path))
        )
        await callers.close()
        assert outcome == Success()
        return server.requests[0].decode().replace(str(server.port), "PORT").split("\r\n")


def test_discovery_finds_the_callers_of_the_package(settings):
    found = {type(caller) for caller in discover(settings)._callers}

    assert {HttpCaller, JsonRpcCaller} <= found


@pytest.mark.parametrize(
    ("protocol", "url", "kind"),
    [
        ("http", "http://bank/a", HttpCaller),
        ("http", "http://bank/a?method=x", HttpCaller),
        ("http", "bank/a", HttpCaller),
        ("grpc", "https://bank/a", HttpCaller),
        ("grpc", "http://bank/a?method=x", HttpCaller),
        ("json-rpc", "http://bank/a", HttpCaller),
        ("json-rpc", "http://bank/a?method=x", JsonRpcCaller),
        ("json-rpc", "https://bank/a?method=x", JsonRpcCaller),
    ],
)
def test_caller_is_chosen_by_protocol_and_url(settings, protocol, url, kind):
    assert type(discover(settings).for_call(protocol, url)) is kind


def test_urls_are_checked_by_the_caller_that_serves_them(settings):
    callers = Callers([JsonRpcCaller(settings), HttpCaller(settings)])

    assert callers.check("http", "") == ""
    assert callers.check("http", "http://bank/") == ""
    assert "not a URL" in callers.check("http", "bank/a")
    assert "no installed caller takes a grpc branch" in callers.check("grpc", "bank:8080/pkg.Svc/M")
    assert "does not name the JSON-RPC method" in callers.check("json-rpc", "http://bank/method/a")
    assert callers.check("json-rpc", "http://bank/?method=A") == ""


@pytest.mark.anyio
async def test_a_branch_without_a_caller_is_unknown():
    outcome = await Callers([]).call(branch_call("bank:8080/pkg.Svc/M", protocol="grpc"))

    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert "no installed caller" in outcome.error


@pytest.mark.anyio
async def test_post_with_payload(settings):
    assert await sent_request(discover(settings), branch_call(""), "/api?x=1") == [
        "POST /api?x=1&branch_id=01&gid=g1&op=action&trans_type=saga HTTP/1.1",
        "Host: 127.0.0.1:PORT",
        "Content-Type: application/json",
        "Accept: application/json",
        "User-Agent: reefknot",
        "Content-Length: 13",
        "",
        '{"amount":30}',
    ]


@pytest.mark.anyio
async def test_get_without_payload(settings):
    assert await sent_request(discover(settings), branch_call("", payload=b""), "/api") == [
        "GET /api?branch_id=01&gid=g1&op=action&trans_type=saga HTTP/1.1",
        "Host: 127.0.0.1:PORT",
        "Content-Type: application/json",
        "Accept: application/json",
        "User-Agent: reefknot",
        "",
        "",
    ]


@pytest.mark.anyio
async def test_post_without_payload_where_the_mode_asks_for_it(settings):
    request = await sent_request(discover(settings), branch_call("", payload=b"", post=True), "/")

    assert request[0].startswith("POST /?")
    assert request[-3:] == ["Content-Length: 0", "", ""]


@pytest.mark.anyio
async def test_branch_headers_override_whatever_their_case(settings):
    headers = {
        "ACCEPT": "text/plain",
        "user-agent": "mine",
        "X-Empty": "",
        "X-Name": "Jürgen ",
        "host": "other",
        "content-length": "1000",
        "Connection": "close",
        "Transfer-Encoding": "chunked",
        "Accept-encoding": "gzip",
    }

    assert await sent_request(discover(settings), branch_call("", headers=headers), "/") == [
        "POST /?branch_id=01&gid=g1&op=action&trans_type=saga HTTP/1.1",
        "Host: other",
        "Content-Type: application/json",
        "ACCEPT: text/plain",
        "user-agent: mine",
        "X-Empty: ",
        "X-Name: Jürgen",
        "Content-Length: 13",
        "",
        '{"amount":30}',
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["X-A\r\nX-B", "X A", "", "X:A", "Ä"])
async def test_header_names_cannot_break_the_request(settings, name):
    outcome = await HttpCaller(settings).call(branch_call("http://127.0.0.1:1/", headers={name: "v"}))

    assert outcome == Unknown(f"the header name {name!r} cannot be sent", unreachable=True)


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\nb", "a\x00b", "a\x7f"])
async def test_header_values_cannot_break_the_request_and_are_not_shown(settings, value):
    for url, kind in (("http://127.0.0.1:1/?method=A", JsonRpcCaller), ("https://127.0.0.1:1/", HttpCaller)):
        outcome = await kind(settings).call(branch_call(url, headers={"X-A": value}))

        assert outcome == Unknown("the value of the header X-A contains a control character", unreachable=True)


@pytest.mark.anyio
async def test_jsonrpc_request(settings):
    payload = b'{"amount":30.10,"big":12345678901234567890123,"gid":"forged"}'
    call = branch_call("", protocol="json-rpc", payload=payload, headers={"X-A": "b"})
    *head, _, body = await sent_request(discover(settings), call, "/rpc?method=Trans%4Fut&x=1")

    assert head == [
        "POST /rpc?method=Trans%4Fut&x=1 HTTP/1.1",
        "Host: 127.0.0.1:PORT",
        "Content-Type: application/json",
        "Accept: application/json",
        "User-Agent: reefknot",
        "X-A: b",
        f"Content-Length: {len(body)}",
    ]
    assert body == (
        '{"id":"id-1","jsonrpc":"2.0","method":"TransOut","params":{"amount":30.10,"big":12345678901234567890123,'
        '"gid":"g1","trans_type":"saga","branch_id":"01","op":"action"}}'
    )


@pytest.mark.anyio
async def test_jsonrpc_request_without_payload(settings):
    request = await sent_request(discover(settings), branch_call("", protocol="json-rpc", payload=b""), "/?method=A")

    assert json.loads(request[-1])["params"] == {"gid": "g1", "trans_type": "saga", "branch_id": "01", "op": "action"}


@pytest.mark.anyio
@pytest.mark.parametrize("payload", [b"[1]", b"x", b'"a"', b"null", b'{"a":' * 100_000])
async def test_jsonrpc_payload_must_be_an_object(settings, payload):
    call = branch_call("http://127.0.0.1:1/?method=A", protocol="json-rpc", payload=payload)

    outcome = await JsonRpcCaller(settings).call(call)

    assert outcome == Unknown("the payload of a JSON-RPC branch must be a JSON object", unreachable=True)


@pytest.mark.anyio
async def test_matching_is_a_setting():
    settings = CallerSettings(make_id=lambda: "1", matching=Matching.SUBSTRING)
    async with RawServer(answering(http_answer(500, b"FAILURE"))) as server:
        caller = HttpCaller(settings)
        outcome = await caller.call(branch_call(server.url()))
        await caller.close()

    assert outcome == Failure("FAILURE FAILURE")
