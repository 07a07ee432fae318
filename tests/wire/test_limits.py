"""docs/limits.md says what the code enforces, and the door is open up to the limit and not beyond."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from reefknot.api.body import BODY_SECONDS
from reefknot.api.connection import HEAD_BYTES, HEAD_SECONDS
from reefknot.api.grpc_server import CALLS_MOST
from reefknot.api.lookups import LIST_MOST
from reefknot.callers.grpc.channels import CHANNELS_MOST
from reefknot.client._sync.client import DEFAULT_TIMEOUT
from reefknot.client.exchange import ANSWER_LIMIT_BYTES
from reefknot.config import Config
from reefknot.coordinator.topics import REMARK_BYTES, SUBSCRIBERS_MOST
from reefknot.engine.admission import Limits
from reefknot.engine.modes.msg import DELAY_SECONDS_MAX
from reefknot.testing.server import LocalServer
from reefknot.wire.grpc import STATUS_TEXT_BYTES
from reefknot.wire.outcome import TEXT_LIMIT

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"
LIMITS, CONFIG = Limits(), Config()

#: Row of the page: the value in the code, and the field of Limits or Config it comes from.
ROWS = {
    "gid, branch id, topic name": (LIMITS.name_bytes, "name_bytes"),
    "op of a workflow step": (LIMITS.op_bytes, "op_bytes"),
    "protocol": (LIMITS.protocol_bytes, "protocol_bytes"),
    "URL": (LIMITS.url_bytes, "url_bytes"),
    "steps": (CONFIG.max_steps, "steps"),
    "custom_data": (LIMITS.custom_data_bytes, "custom_data_bytes"),
    "nesting of the JSON in custom_data, levels": (LIMITS.custom_data_depth, "custom_data_depth"),
    "branch_headers, number": (LIMITS.headers, "headers"),
    "branch_headers, names and values together": (LIMITS.header_bytes, "header_bytes"),
    "timeout_to_fail, seconds": (LIMITS.timeout_seconds, "timeout_seconds"),
    "request_timeout, seconds": (LIMITS.request_timeout_seconds, "request_timeout_seconds"),
    "retry_interval, seconds": (LIMITS.retry_seconds, "retry_seconds"),
    "retry_limit, calls": (LIMITS.retry_limit, "retry_limit"),
    "delay of a msg, seconds": (DELAY_SECONDS_MAX, ""),
    "body": (CONFIG.body_limit, ""),
    "time for the body to arrive, seconds": (int(BODY_SECONDS), ""),
    "request line and headers": (HEAD_BYTES, ""),
    "time for them to arrive, seconds": (int(HEAD_SECONDS), ""),
    "rows of one listing": (LIST_MOST, ""),
    "subscribers of a topic": (SUBSCRIBERS_MOST, ""),
    "remark of a subscriber": (REMARK_BYTES, ""),
    "error text in a reply, characters": (TEXT_LIMIT, ""),
    "rollback reason, characters": (TEXT_LIMIT, ""),
    "gRPC calls at once on one connection": (CONFIG.grpc_max_streams, ""),
    "gRPC calls at once in all": (CALLS_MOST, ""),
    "text of a gRPC status, bytes on the wire": (STATUS_TEXT_BYTES, ""),
    "answer of a participant; over gRPC its message, and its metadata with the error text": (CONFIG.response_limit, ""),
    "calls to one host at once": (CONFIG.host_concurrency, ""),
    "gRPC channels kept open": (CHANNELS_MOST, ""),
    "answer, bytes": (ANSWER_LIMIT_BYTES, ""),
    "time until the whole answer is there unless `timeout=` says otherwise, seconds": (int(DEFAULT_TIMEOUT), ""),
}


def page_rows():
    """The rows of the page: name, value, setting, reply."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "Setting" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_the_values_of_the_code():
    assert {name: int(value) for name, value, _, _ in page_rows()} == {name: value for name, (value, _) in ROWS.items()}


def test_every_limit_of_the_code_is_on_the_page():
    assert {field for _, field in ROWS.values() if field} == set(Limits.__struct_fields__)
    assert LIMITS.steps == CONFIG.max_steps


def test_the_settings_on_the_page_exist_with_that_default():
    settings = {field.encode_name: field.default for field in msgspec.structs.fields(Config)}
    named = {setting.strip("`"): int(value) for _, value, setting, _ in page_rows() if setting}
    assert named
    for name, value in named.items():
        assert settings[name] == value


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


def tcc(gid, **fields):
    return "prepare", {"gid": gid, "trans_type": "tcc", **fields}


def saga(gid, **fields):
    steps = [{"action": "", "compensate": ""}]
    return "prepare", {"gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["1"], **fields}


def sized_url(size):
    return "http://h/".ljust(size, "a")


def step(gid, **fields):
    return "registerBranch", {"gid": "flow", "trans_type": "workflow", "branch_id": gid, "status": "succeed", **fields}


def nested(levels):
    return '{"x":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def msg(gid, **fields):
    return "prepare", {"gid": gid, "trans_type": "msg", **fields}


#: Row of the page: a request whose size is the limit when it is called with it.
EDGES = {
    "gid, branch id, topic name": lambda size: tcc("g" * size),
    "op of a workflow step": lambda size: step(f"{size}", op="o" * size),
    "protocol": lambda size: tcc(f"protocol {size}", protocol="p" * size),
    "URL": lambda size: saga(f"url {size}", steps=[{"action": sized_url(size), "compensate": ""}]),
    "steps": lambda size: saga(f"steps {size}", steps=[{"action": ""}] * size, payloads=["1"] * size),
    "custom_data": lambda size: saga(f"custom {size}", custom_data="{" + " " * (size - 2) + "}"),
    "nesting of the JSON in custom_data, levels": lambda size: saga(f"nested {size}", custom_data=nested(size)),
    "branch_headers, number": lambda size: tcc(f"n {size}", branch_headers={f"x{n}": "" for n in range(size)}),
    "branch_headers, names and values together": lambda size: tcc(f"h {size}", branch_headers={"x": "v" * (size - 1)}),
    "timeout_to_fail, seconds": lambda size: tcc(f"timeout {size}", timeout_to_fail=size),
    "request_timeout, seconds": lambda size: tcc(f"request {size}", request_timeout=size),
    "retry_interval, seconds": lambda size: tcc(f"retry {size}", retry_interval=size),
    "retry_limit, calls": lambda size: tcc(f"limit {size}", retry_limit=size),
    "delay of a msg, seconds": lambda size: msg(f"delay {size}", custom_data=f'{{"delay":{size}}}'),
    "body": lambda size: ("prepare", b'{"gid":"body","trans_type":"tcc"}'.ljust(size)),
}


@pytest.mark.parametrize("name", EDGES)
def test_at_the_limit_and_one_more(server, name):
    _, most, _, reply = next(row for row in page_rows() if row[0] == name)
    assert server.post("prepareWorkflow", {"gid": "flow", "trans_type": "workflow"}).status == 200
    fits = server.post(*EDGES[name](int(most)))
    assert fits.status == 200, fits
    beyond = server.post(*EDGES[name](int(most) + 1))
    assert (beyond.status, beyond.json().keys()) == (int(reply), {"message"})


def test_subscribers_of_a_topic(server):
    for number in range(SUBSCRIBERS_MOST):
        assert server.get("subscribe", topic="crowd", url=f"http://h/{number}").status == 200
    answer = server.get("subscribe", topic="crowd", url="http://h/more")
    assert (answer.status, answer.json()) == (
        500,
        {"message": "the topic has 1000 subscribers, which is the most"},
    )


@pytest.mark.parametrize("mode", ["tcc", "workflow"])
def test_a_long_reason_is_cut_with_a_mark(server, mode):
    gid, reason = f"long {mode}", "r" * 5000
    transaction = {"gid": gid, "trans_type": mode}
    if mode == "tcc":
        assert server.post("prepare", transaction).status == 200
        assert server.post("abort", {**transaction, "rollback_reason": reason}).status == 200
    else:
        end = {**transaction, "req_extra": {"status": "failed", "rollback_reason": reason}}
        assert server.post("prepareWorkflow", transaction).status == 200
        assert [server.post("submit", end).status for _ in range(2)] == [200, 200]
    shown = server.get("query", gid=gid).json()["transaction"]["rollback_reason"]
    assert (len(shown), shown.strip("r")) == (TEXT_LIMIT, " ...(truncated)")


def test_no_error_text_is_longer_than_the_page_says(server):
    answers = [
        server.post("submit", {"gid": "x", "trans_type": "x" * 100_000}),
        server.send("DELETE", "/api/dtmsvr/topic/" + "t" * 20_000),
        server.send("GET", "/api/dtmsvr/all?position=" + "p" * 20_000),
        server.post("submit", {"gid": "x", "trans_type": "tcc", "branch_headers": {"a b" * 10_000: "1"}}),
        server.jsonrpc("submit", {"gid": "x", "trans_type": "x" * 100_000}),
    ]
    for answer in answers:
        fields = answer.json()
        text = fields["message"] if "message" in fields else fields["error"]["message"]
        assert (len(text), text[-15:]) == (TEXT_LIMIT, " ...(truncated)")


def test_the_numbers_stand_in_the_texts_too():
    """A text that says how much is allowed says what the page says."""
    from wire.bad_http import TABLE

    texts = b"\n".join(bad.reply for bad in TABLE if bad.status in (400, 413)).decode()
    for number in set(re.findall(r"(?:send at most|longer than|from 0 to|\(not set\) to) (\d+)", texts)):
        assert int(number) in {value for value, _ in ROWS.values()} | {10 * 365 * 86_400}
