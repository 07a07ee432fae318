"""The table of bad JSON-RPC input: what is sent, and the exact reply."""

from __future__ import annotations

import json
from typing import Any

from wire.bad_case import DEEP, JSON, NOWHERE, TEXT, Bad, message, msg, saga, tcc_branch

PATH = "/api/json-rpc"
PARSE, REQUEST, METHOD, INTERNAL, FAILURE = -32700, -32600, -32601, -32603, -32901


def call(method: str = "newGid", params: Any = None, **changes: Any) -> dict[str, Any]:
    """A good request with changes."""
    return {"jsonrpc": "2.0", "id": "7", "method": method, "params": {} if params is None else params, **changes}


def rpc(
    name: str, body: object, code: int, text: str, *, request_id: str = "7", result: object = None, status: int = 200
) -> Bad:
    """One call and its reply."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    short = json.loads(message(text))["message"]
    reply = {"error": {"code": code, "message": short}, "id": request_id, "jsonrpc": "2.0", "result": result}
    encoded = json.dumps(reply, separators=(",", ":"), ensure_ascii=False)
    return Bad(f"JSON-RPC: {name}", "POST", PATH, sent, status, encoded.encode(), TEXT if status == 400 else JSON)


def unreadable(name: str, body: object, text: str) -> Bad:
    """What is no request at all."""
    return rpc(name, body, PARSE, f"Parse json error: {text}", request_id="", status=400)


def bad_request(name: str, body: dict[str, Any], request_id: str = "") -> Bad:
    """What is a request of another form; it is shown back."""
    return rpc(name, body, REQUEST, f"Bad json request: {json.dumps(body)}", request_id=request_id)


def without(*names: str) -> dict[str, Any]:
    """A good request without some of its members."""
    return {name: value for name, value in call().items() if name not in names}


NO_OBJECT = "the body is not a JSON object (Expected `object`, got `{}`); send a JSON object"

TABLE = [
    unreadable("empty body", b"", "Input data was truncated"),
    unreadable("cut off", b'{"jsonrpc":"2.0"', "Input data was truncated"),
    unreadable("a batch", [call(), call()], "Expected `object`, got `array`"),
    unreadable("a text", b'"newGid"', "Expected `object`, got `str`"),
    unreadable("invalid UTF-8", b"\xff", "JSON is malformed: invalid character (byte 0)"),
    unreadable("id is a number", call(id=7), "Expected `str | null`, got `int` - at `$.id`"),
    unreadable("id is an object", call(id={}), "Expected `str | null`, got `object` - at `$.id`"),
    unreadable("method is a number", call(5), "Expected `str | null`, got `int` - at `$.method`"),
    unreadable(
        "params nested deep",
        f'{{"jsonrpc":"2.0","id":"7","method":"submit","params":{DEEP}}}'.encode(),
        "the JSON is nested too deeply",
    ),
    bad_request("no id", without("id")),
    bad_request("id is null", call(id=None)),
    bad_request("id is empty", call(id="")),
    bad_request("version 1.0", call(jsonrpc="1.0"), "7"),
    bad_request("no version", without("jsonrpc"), "7"),
    rpc("no method", without("method"), METHOD, "Method not found: "),
    rpc("unknown method", call("getAll"), METHOD, "Method not found: getAll"),
    rpc("query: no gid", call("query"), INTERNAL, "no gid specified; send the gid of a transaction"),
    rpc("query: gid is a number", call("query", {"gid": 1}), INTERNAL, "gid: is not a text; send it in quotes"),
    rpc(
        "query: params is a list",
        call("query", [1]),
        INTERNAL,
        "params: is not a JSON object (Expected `object | null`, got `array`); send an object",
    ),
    rpc(
        "wait: seconds is a text",
        call("wait", {"gid": "done", "seconds": "1"}),
        INTERNAL,
        "seconds: is not a whole number; send one from 0 to 315360000",
    ),
    rpc("wait: unknown gid", call("wait", {"gid": "none"}), INTERNAL, "no TransGlobal with gid: none found"),
    rpc(
        "all: limit too large",
        call("all", {"limit": 1001}),
        INTERNAL,
        "limit: is 1001; send a whole number from 0 to 1000",
    ),
    rpc("deleteTopic: no topic", call("deleteTopic"), INTERNAL, "topic: empty topic"),
    rpc("method in other case", call("Submit"), METHOD, "Method not found: Submit"),
    rpc("method of 500 letters", call("m" * 500), METHOD, f"Method not found: {'m' * 113} ...(truncated)"),
    rpc("submit: params is a list", call("submit", [1]), INTERNAL, NO_OBJECT.format("array")),
    rpc("submit: params is a text", call("submit", "x"), INTERNAL, NO_OBJECT.format("str")),
    rpc("submit: params is null", {**call("submit"), "params": None}, INTERNAL, NO_OBJECT.format("null")),
    rpc(
        "submit: no params",
        without("params") | {"method": "submit"},
        INTERNAL,
        "trans_type: '' is no transaction mode; send one of msg, saga, tcc, workflow, xa",
    ),
    rpc(
        "submit: gid with semicolon",
        call("submit", saga(gid="a;b")),
        INTERNAL,
        "gid: contains ';'; DTM's clients delete that character: choose another one",
    ),
    rpc(
        "submit: float",
        call("submit", saga(timeout_to_fail=0.5)),
        INTERNAL,
        "timeout_to_fail: has the wrong type (Expected `int | null`, got `float`); send a whole number",
    ),
    rpc(
        "submit: own gid in the URL",
        call("submit", saga(steps=[{"action": f"{NOWHERE}?gid=1", "compensate": ""}])),
        INTERNAL,
        "steps[0].action: has a query parameter 'gid' of its own; the server adds it to every call",
    ),
    rpc(
        "submit: other content",
        call("submit", msg(gid="open")),
        FAILURE,
        "gid 'open' is a tcc, not a msg. FAILURE",
        result={},
    ),
    rpc(
        "registerBranch: data is a number",
        call("registerBranch", tcc_branch(data=1)),
        INTERNAL,
        "data: is not a text (Expected `str | null`, got `int`); send every value as a text",
    ),
    rpc(
        "registerBranch: no such gid",
        call("registerBranch", tcc_branch(gid="nobody")),
        FAILURE,
        "no trans with gid: nobody status: prepared found FAILURE",
        result={},
    ),
    rpc(
        "abort unknown",
        call("abort", {"gid": "nobody", "trans_type": "tcc"}),
        INTERNAL,
        "no TransGlobal with gid: nobody found",
    ),
    Bad("JSON-RPC: GET", "GET", PATH, None, 404, b"404 page not found", TEXT),
    Bad(
        "JSON-RPC: 5 MB",
        "POST",
        PATH,
        b" " * 5_000_000,
        413,
        message("the body is larger than 4194304 bytes; send less, or raise BodyLimit"),
    ),
]
