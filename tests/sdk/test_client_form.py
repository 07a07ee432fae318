"""What the client's parts make of what they are given, and the form of the SDK itself."""

import dataclasses
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

import reefknot
from reefknot import (
    BarrierMissing,
    Client,
    Failure,
    GidConflict,
    Invalid,
    NotFound,
    Ongoing,
    OutcomeUnknown,
    ReefknotError,
    Refused,
    RolledBack,
    ServerUnavailable,
    WorkflowChanged,
)
from reefknot.client import Request, Response, ambient
from reefknot.client.branches import BranchIds
from reefknot.client.options import whole_seconds
from reefknot.client.payload import encode
from reefknot.client.transports.urllib3 import Urllib3Transport
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer
from reefknot.wire.proto.dtmgimp_pb2 import DtmGidReply
from sdk.client_faces import FACES, open_client

ROOT = Path(__file__).parents[2]
#: What the server and nobody else needs.
SERVER_PACKAGES = {
    "aiohttp",
    "apsw",
    "asyncio",
    "click",
    "grpc",
    "httptools",
    "starlette",
    "structlog",
    "uvicorn",
    "uvloop",
}


@dataclasses.dataclass
class Order:
    number: int
    items: list[str]


class Point(msgspec.Struct):
    x: int


class PydanticLike:
    """A model is known by its method: pydantic itself is never imported."""

    def model_dump_json(self):
        return '{"p":1}'


@pytest.mark.parametrize(
    ("data", "text", "binary"),
    [
        ({"a": 1}, b'{"a":1}', b'{"a":1}'),
        ([1, "x"], b'[1,"x"]', b'[1,"x"]'),
        ("text", b'"text"', b'"text"'),
        (3, b"3", b"3"),
        (None, b"{}", b""),
        (b"\xff raw", b"\xff raw", b"\xff raw"),
        (bytearray(b"raw"), b"raw", b"raw"),
        (Order(1, ["a"]), b'{"number":1,"items":["a"]}', b'{"number":1,"items":["a"]}'),
        (Point(2), b'{"x":2}', b'{"x":2}'),
        (PydanticLike(), b'{"p":1}', b'{"p":1}'),
        (DtmGidReply(Gid="g"), b'{"Gid": "g"}', b"\n\x01g"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_payloads(data, text, binary):
    assert encode(data) == text
    assert encode(data, binary=True) == binary


@pytest.mark.parametrize("data", [object(), {"a": object()}, {1, 2, object()}, lambda: None])
def test_payload_of_no_known_kind_is_named(data):
    with pytest.raises(Invalid, match=f"data: a {type(data).__name__} cannot be encoded"):
        encode(data)


def test_bytes_that_are_no_text_need_grpc():
    with Client("http://127.0.0.1:1") as client:
        saga = client.saga()
        saga.step("http://bank/out", data=b"\xff")
        with pytest.raises(Invalid, match=r"steps\[0\]\.data: these bytes are no UTF-8.*grpc://"):
            saga.submit()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, 0), (3, 3), (2.1, 3), (0.001, 1), (timedelta(minutes=2), 120), (timedelta(days=1), 86400)],
)
def test_times_are_rounded_up_to_whole_seconds(given, seconds):
    assert whole_seconds("timeout", given) == seconds


@pytest.mark.parametrize("given", [0, -1, timedelta(), float("inf"), float("nan")])
def test_times_that_are_none_are_refused_by_name(given):
    with Client("http://127.0.0.1:1") as client, pytest.raises(Invalid, match="request_timeout: is"):
        client.saga(request_timeout=given)


@pytest.mark.parametrize("given", [0, -1, 1.5])
def test_limit_that_the_protocol_cannot_say_is_refused(given):
    """On the wire 0 means that there is no limit, the opposite of what it looks like."""
    with Client("http://127.0.0.1:1") as client, pytest.raises(Invalid, match=r"retry_limit: is .*from 1"):
        client.saga(retry_limit=given)


@pytest.mark.parametrize("url", ["", "bank", "bank/out", "/out/in/x"])
def test_urls_that_are_none_are_refused_by_name(url):
    with Client("http://127.0.0.1:1") as client:
        with pytest.raises(Invalid, match="action: "):
            client.saga().step(url)
        with pytest.raises(Invalid, match="url: "):
            client.msg().send(url)


@pytest.mark.conformance("UnitDtmcli")
def test_branch_ids_have_two_digits_a_level():
    ids = BranchIds()
    assert [ids.next() for _ in range(3)] == ["01", "02", "03"]
    assert BranchIds("0102").next() == "010201"
    assert BranchIds("01" * 63).next() == "01" * 64
    with pytest.raises(Invalid, match="64 levels"):
        BranchIds("01" * 64).next()
    for _ in range(96):
        ids.next()
    with pytest.raises(Invalid, match="99 ids of this transaction are used up"):
        ids.next()


@pytest.mark.conformance("UnitDtmcli")
def test_nested_tcc_names_what_is_missing():
    with Client("http://127.0.0.1:1") as client:
        with pytest.raises(Invalid, match="gid: is missing"):
            client.tcc_from({"branch_id": "01"})
        with pytest.raises(Invalid, match="branch_id: is missing"):
            client.tcc_from({"gid": "g"})


class Recording:
    """A transport of one's own: one method."""

    def __init__(self):
        self.requests = []
        self._inner = Urllib3Transport()

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        return self._inner.send(request)


def test_own_transports_carry_requests_and_calls_apart():
    to_server, to_branches = Recording(), Recording()
    with LocalServer() as server, Participant() as bank:
        with Client(server.url, headers={"x-token": "t"}, transport=to_server, call_transport=to_branches) as client:
            with client.tcc(headers={"x-tenant": "a"}) as tcc:
                tcc.try_(bank.url("/hold?shop=1"), confirm=bank.url("/c"), cancel=bank.url("/x"))
            with client.xa() as xa:
                xa.call(bank.url("/xa"))
        verbs = [request.url.rpartition("/")[2] for request in to_server.requests]
        assert verbs == ["prepare", "registerBranch", "submit", "prepare", "submit"]
        assert {request.headers["x-token"] for request in to_server.requests} == {"t"}
        tried, called = to_branches.requests
        expected = {"dtm": server.url, "gid": tcc.gid, "branch_id": "01", "trans_type": "tcc", "op": "try", "shop": "1"}
        assert {name: values[0] for name, values in parse_qs(urlsplit(tried.url).query).items()} == expected
        assert tried.headers["x-tenant"] == "a"
        assert "x-token" not in tried.headers
        query = {name: values[0] for name, values in parse_qs(urlsplit(called.url).query).items()}
        assert (query["op"], query["phase2_url"]) == ("action", bank.url("/xa"))


@pytest.mark.parametrize("face", FACES)
def test_trace_goes_on_to_the_server_and_every_branch(face):
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}
    with LocalServer() as server, Participant() as bank, open_client(face, server.url) as client:
        call = ambient.Ambient.of_call(
            {"gid": "outer", "branch_id": "01"}, {"Traceparent": trace["traceparent"], "tracestate": "a=b", "x": "y"}
        )
        assert ambient.current().gid == ""
        with ambient.entered(call):
            assert (ambient.current().gid, ambient.current().trace) == ("outer", trace)
            with client.tcc(wait=True) as tcc:
                tcc.try_(bank.url("/hold"), confirm=bank.url("/take"), cancel=bank.url("/free"))
            with client.saga(wait=True, headers={"tracestate": "mine"}) as saga:
                saga.step(bank.url("/out"))
        assert ambient.current().gid == ""
        with client.saga(wait=True) as saga:
            saga.step(bank.url("/alone"))
    seen = {call.path: {name.lower(): value for name, value in call.headers.items()} for call in bank.calls}
    assert {path: seen[path].get("traceparent") for path in ("/hold", "/take", "/out")} == dict.fromkeys(
        ("/hold", "/take", "/out"), trace["traceparent"]
    )
    assert (seen["/take"]["tracestate"], seen["/out"]["tracestate"]) == ("a=b", "mine")
    assert "traceparent" not in seen["/alone"]


def test_redirects_are_not_followed_and_urls_are_sent_as_they_are():
    from reefknot.testing.participant import Say

    with Participant() as bank, Participant() as dtm:
        bank.always("/moved", Say(302, headers=(("Location", bank.url("/elsewhere")),)))
        for face in FACES:
            with open_client(face, dtm.url("")) as client:
                with pytest.raises(OutcomeUnknown), client.tcc() as tcc:
                    tcc.try_(bank.url("/moved"), confirm=bank.url("/c"), cancel=bank.url("/x"))
                with client.tcc() as tcc:
                    tcc.try_(bank.url("/a%2Fb%20c"), confirm=bank.url("/c"), cancel=bank.url("/x"))
        assert [call.path for call in bank.calls] == ["/moved", "/a%2Fb%20c"] * 2


# --- errors ---------------------------------------------------------------------------------------

SDK_ERRORS = (
    Failure,
    Ongoing,
    RolledBack,
    OutcomeUnknown,
    GidConflict,
    Refused,
    NotFound,
    ServerUnavailable,
    BarrierMissing,
    WorkflowChanged,
)


@pytest.mark.parametrize("kind", SDK_ERRORS)
def test_error_says_what_happened_where_and_what_to_do(kind):
    error = kind("it broke", gid="g-1", branch_id="02", url="http://bank", advice="mend it")
    assert str(error).splitlines() == [
        f"it broke ({kind.code})",
        "  gid: g-1  branch: 02  url: http://bank",
        "  next: mend it",
        f"  more: docs/errors.md#{kind.code.lower()}",
    ]
    assert (error.gid, error.branch_id, error.url) == ("g-1", "02", "http://bank")
    assert str(kind("only words")) == "only words"
    assert isinstance(error, ReefknotError)


def test_sdk_codes_are_unique():
    codes = [kind.code for kind in SDK_ERRORS]
    assert len(set(codes)) == len(codes)


def test_every_code_is_used_once_and_documented():
    page = (ROOT / "docs/errors.md").read_text("utf-8")
    sources = [path.read_text("utf-8") for path in (ROOT / "src/reefknot").rglob("*.py")]
    codes = sorted(
        code for text in sources for code in re.findall(r'^    code(?:: \S+)? = "(RK\d+)"', text, re.MULTILINE)
    )
    assert len(codes) >= len(SDK_ERRORS)
    assert len(set(codes)) == len(codes)
    assert set(codes) <= set(re.findall(r"^## (RK\d+)$", page, re.MULTILINE))


def test_words_of_a_branch():
    assert Failure("no money").reason == "no money"
    assert (Ongoing("in review", retry_after=30).note, Ongoing("x", retry_after=30).retry_after) == ("in review", 30)


# --- form -----------------------------------------------------------------------------------------


def test_synchronous_modules_are_current():
    command = [sys.executable, str(ROOT / "scripts/twins.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_both_faces_have_the_same_names():
    from reefknot import client

    pairs = [name.removeprefix("Async") for name in client.__all__ if name.startswith("Async")]
    for name in pairs:
        mine, other = (set(dir(getattr(client, prefix + name))) for prefix in ("", "Async"))
        plain = {attribute for attribute in mine ^ other if not attribute.startswith("__")}
        assert plain == set(), name


def imported(statement):
    """CPU milliseconds of the fastest of five imports in new processes, and what was imported."""
    program = f"""
import sys, time
begun = time.process_time()
{statement}
print((time.process_time() - begun) * 1000, *{{name.partition('.')[0] for name in sys.modules}})
"""
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    return min(float(run[0]) for run in runs), set(runs[0][1:])


def test_import_costs_at_most_60_ms_and_brings_no_server():
    milliseconds, modules = imported("import reefknot")
    assert milliseconds <= 60
    assert modules & (SERVER_PACKAGES | {"msgspec", "urllib3"}) == set()


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_client_brings_no_server(name):
    _, modules = imported(f"from reefknot import {name}; {name}('http://127.0.0.1:1').saga")
    assert modules & SERVER_PACKAGES - {"asyncio"} == set()


def test_public_names_exist_and_no_others():
    assert all(getattr(reefknot, name) for name in reefknot.__all__)
    assert set(reefknot.__all__) <= set(dir(reefknot))
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        reefknot.Clinet  # noqa: B018 - the access is the test
