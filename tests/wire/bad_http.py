"""The table of bad HTTP input: what is sent, and the exact reply.

The store holds, before and after: ``done`` (a saga that succeeded), ``stopped`` (a TCC that was
stopped by force), ``open`` (a prepared TCC with branch 01), ``letter`` (a prepared message),
``flow`` (a prepared workflow with step 01), and the topic ``news`` with one subscriber.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
NOWHERE = "http://127.0.0.1:9/nobody"
TEXT_LIMIT = 1024


class Bad(NamedTuple):
    """One request and the reply it must get."""

    name: str
    method: str
    path: str
    body: bytes | None
    status: int
    reply: bytes
    content_type: str = JSON


def message(text: str) -> bytes:
    """An error body as Go writes it: the text is cut where it is longer than is good to read."""
    if len(text) > TEXT_LIMIT:
        text = text[: TEXT_LIMIT - len(" ...(truncated)")] + " ...(truncated)"
    encoded = json.dumps({"message": text}, ensure_ascii=False, separators=(",", ":"))
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def failure(text: str) -> bytes:
    """The body of a 409."""
    return json.dumps({"dtm_result": "FAILURE", "message": text}, separators=(",", ":")).encode()


def saga(**changes: Any) -> dict[str, Any]:
    """A good saga with changes."""
    steps = [{"action": NOWHERE, "compensate": NOWHERE}]
    return {"gid": "new", "trans_type": "saga", "steps": steps, "payloads": ["{}"], **changes}


def msg(**changes: Any) -> dict[str, Any]:
    """A good message with changes."""
    return {"gid": "new", "trans_type": "msg", "steps": [{"action": NOWHERE}], "payloads": ["{}"], **changes}


def tcc_branch(**changes: Any) -> dict[str, Any]:
    """A good registration with changes."""
    branch = {"gid": "open", "trans_type": "tcc", "branch_id": "02", "data": "{}", "confirm": NOWHERE}
    return {**branch, "cancel": NOWHERE, **changes}


def post(name: str, verb: str, body: dict[str, Any] | bytes, status: int, text: str | bytes, kind: str = JSON) -> Bad:
    """A POST to one of the verbs."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Bad(
        name, "POST", f"/api/dtmsvr/{verb}", sent, status, text if isinstance(text, bytes) else message(text), kind
    )


def get(name: str, path: str, status: int, text: str) -> Bad:
    """A GET of one of the verbs."""
    return Bad(name, "GET", f"/api/dtmsvr/{path}", None, status, message(text))


def elsewhere(name: str, method: str, path: str) -> Bad:
    """A request to no route."""
    return Bad(name, method, path, b"" if method == "HEAD" else None, 404, b"404 page not found", TEXT)


NO_JSON = "the body is not a JSON object ({}); send a JSON object"
NO_TEXTS = "the body is not a JSON object of texts ({}); send every value as a text"
LONG_GID = "g" * 129
BEYOND = 2**70
DEEP = "[" * 50_000 + "]" * 50_000
TOO_DEEP = "the JSON is nested too deeply; send the fields as documented: none needs three levels"
KINDS = "send one of msg, saga, tcc, workflow, xa"


def transaction_bodies() -> list[Bad]:
    """Bodies that are no JSON of the right form, at every verb that reads one."""
    cases = []
    for verb in ("prepare", "submit", "abort", "forceStop", "prepareWorkflow", "resetNextCronTime"):
        cases += [
            post(f"{verb}: empty body", verb, b"", 500, "unexpected end of JSON input; send a JSON object"),
            post(f"{verb}: cut off", verb, b'{"gid":"new"', 500, NO_JSON.format("Input data was truncated")),
            post(f"{verb}: a list", verb, b"[]", 500, NO_JSON.format("Expected `object`, got `array`")),
            post(
                f"{verb}: gid is a number",
                verb,
                b'{"gid":1}',
                500,
                "gid: has the wrong type (Expected `str | null`, got `int`); send a text",
            ),
            post(f"{verb}: nested 50,000 deep", verb, f'{{"x":{DEEP}}}'.encode(), 400, TOO_DEEP),
        ]
    return [
        *cases,
        post(
            "invalid UTF-8 in a field",
            "submit",
            b'{"gid":"\xff"}',
            500,
            "gid: has the wrong type ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); "
            "send a text",
        ),
        post(
            "invalid UTF-8 as body",
            "submit",
            b"\xff\xfe",
            500,
            NO_JSON.format("JSON is malformed: invalid character (byte 0)"),
        ),
        post("null as body", "submit", b"null", 500, NO_JSON.format("Expected `object`, got `null`")),
        post("steps nested deep", "submit", f'{{"steps":{DEEP}}}'.encode(), 400, TOO_DEEP),
        post("context", "submit", saga(context={}), 500, "context: cannot be sent by a client; leave it out"),
        Bad(
            "body of 5 MB",
            "POST",
            "/api/dtmsvr/submit",
            b" " * 5_000_000,
            413,
            message("the body is larger than 4194304 bytes; send less, or raise BodyLimit"),
        ),
    ]


def fields() -> list[Bad]:
    """Fields of the wrong type or out of their range."""
    wrong = "has the wrong type (Expected `{}`, got `{}`)"
    number = "int | null"
    cases = [
        ("timeout_to_fail", 1.5, 500, f"{wrong.format(number, 'float')}; send a whole number"),
        ("timeout_to_fail", "30", 500, f"{wrong.format(number, 'str')}; send a whole number"),
        ("timeout_to_fail", -1, 400, "is -1; send a whole number from 0 (not set) to 31536000"),
        ("timeout_to_fail", 31_536_001, 400, "is 31536001; send a whole number from 0 (not set) to 31536000"),
        ("timeout_to_fail", BEYOND, 400, f"is {BEYOND}; send a whole number from 0 (not set) to 31536000"),
        ("request_timeout", -1, 400, "is -1; send a whole number from 0 (not set) to 86400"),
        ("request_timeout", 86_401, 400, "is 86401; send a whole number from 0 (not set) to 86400"),
        ("retry_interval", -5, 400, "is -5; send a whole number from 0 (not set) to 86400"),
        ("retry_limit", 10_001, 400, "is 10001; send a whole number from 0 (not set) to 10000"),
        ("retry_limit", True, 500, f"{wrong.format(number, 'bool')}; send a whole number"),
        ("wait_result", "true", 500, f"{wrong.format('bool | null', 'str')}; send true or false"),
        ("concurrent", 1, 500, f"{wrong.format('bool | null', 'int')}; send true or false"),
        ("steps", {}, 500, f"{wrong.format('array | null', 'object')}; send a list of objects whose values are texts"),
        (
            "steps",
            [{"action": 1}],
            500,
            f"{wrong.format('str | null', 'int` - at `$[0][...]')}; send a list of objects whose values are texts",
        ),
        (
            "payloads",
            [{"amount": 1}],
            500,
            "has the wrong type (Expected `str | null`, got `object` - at `$[0]`); send a list of texts",
        ),
        (
            "branch_headers",
            ["a"],
            500,
            f"{wrong.format('object | null', 'array')}; send an object whose values are texts",
        ),
        ("protocol", "p" * 46, 400, "is 46 bytes long; send at most 45 bytes of UTF-8"),
        ("protocol", "ht\ntp", 400, "contains a control character; send printable characters only"),
        ("payloads", [], 500, "index out of range: 1 steps but 0 payloads; send one text for each step"),
        (
            "steps",
            [{"action": "", "compensate": ""}] * 1001,
            413,
            "has 1001 elements; send at most 1000",
        ),
        (
            "custom_data",
            "{",
            400,
            "is not a JSON object (Input data was truncated); send a JSON object as text, or leave it out",
        ),
        (
            "custom_data",
            "[]",
            400,
            "is not a JSON object (Expected `object | null`, got `array`); send a JSON object as text, or leave it out",
        ),
        ("custom_data", '{"concurrent":"yes"}', 400, "concurrent is 'yes'; send true or false"),
        ("custom_data", '{"orders":{"0":[0]}}', 400, "orders make step 0 wait for itself; remove the cycle"),
        ("custom_data", '{"orders":{"0":[1]}}', 400, "orders names step 1; the 1 steps count from 0"),
        ("custom_data", '{"orders":{"0":[-1]}}', 400, "orders names step -1; the 1 steps count from 0"),
        (
            "custom_data",
            '{"orders":[1]}',
            400,
            'orders: Expected `object`, got `array`; send {"orders": {"2": [0, 1]}}',
        ),
        ("custom_data", '{"x":' + "[" * 33 + "]" * 33 + "}", 400, "is nested deeper than 32 levels; send fewer levels"),
        ("custom_data", " " * 1_048_577, 413, "is longer than 1048576 bytes; send less"),
    ]
    bad = [
        post(f"{field} = {str(value)[:30]}", "submit", saga(**{field: value}), status, f"{field}: {text}")
        for field, value, status, text in cases
    ]
    cycle = '{"concurrent":true,"orders":{"0":[2],"1":[0],"2":[1]}}'
    triple = saga(steps=saga()["steps"] * 3, payloads=["1"] * 3, custom_data=cycle)
    return [
        *bad,
        post(
            "orders of three in a cycle",
            "submit",
            triple,
            400,
            "custom_data: orders make step 0 wait for itself; remove the cycle",
        ),
        post(
            "delay is a text",
            "submit",
            msg(custom_data='{"delay":"5"}'),
            400,
            "custom_data: delay is '5'; send whole seconds from 0 to 315360000",
        ),
        post(
            "delay is negative",
            "submit",
            msg(custom_data='{"delay":-5}'),
            400,
            "custom_data: delay is -5; send whole seconds from 0 to 315360000",
        ),
        post(
            "delay beyond every number",
            "submit",
            msg(custom_data='{"delay":1e400}'),
            400,
            "custom_data: is not a JSON object (Number out of range - at `$[...]`); "
            "send a JSON object as text, or leave it out",
        ),
        post(
            "workflow data is no base64",
            "prepareWorkflow",
            {"gid": "new", "trans_type": "workflow", "custom_data": '{"name":"n","data":"*"}'},
            400,
            "custom_data: data is not base64 (Only base64 data is allowed); encode the workflow's input in base64",
        ),
        post("trans_type missing", "submit", {"gid": "new"}, 500, f"trans_type: '' is no transaction mode; {KINDS}"),
        post(
            "trans_type unknown",
            "prepare",
            saga(trans_type="sagas"),
            500,
            f"trans_type: 'sagas' is no transaction mode; {KINDS}",
        ),
        post(
            "trans_type of 5,000 characters",
            "submit",
            saga(trans_type="x" * 5000),
            500,
            f"trans_type: '{'x' * 5000}' is no transaction mode; {KINDS}",
        ),
    ]


def gids() -> list[Bad]:
    """Gids that are refused, the same at every verb."""
    control = "gid: contains a control character; send printable characters only"
    cases = [
        ("empty", "", 500, "gid: is empty (key required); send a unique id, for example one from newGid"),
        ("129 bytes", LONG_GID, 400, "gid: is 129 bytes long; send at most 128 bytes of UTF-8"),
        ("65 letters of 2 bytes", "é" * 65, 400, "gid: is 130 bytes long; send at most 128 bytes of UTF-8"),
        ("NUL", "a\x00b", 400, control),
        ("line break", "a\nb", 400, control),
        ("carriage return", "a\rb", 400, control),
        ("DEL", "a\x7fb", 400, control),
        ("semicolon", "a;b", 400, "gid: contains ';'; DTM's clients delete that character: choose another one"),
    ]
    bad = []
    for name, gid, status, text in cases:
        bad.append(post(f"submit: gid with {name}", "submit", saga(gid=gid), status, text))
    bad += [
        post(f"{verb}: gid with semicolon", verb, saga(gid="a;b"), 400, cases[-1][3])
        for verb in ("prepare", "abort", "forceStop", "resetNextCronTime")
    ]
    bad.append(post("registerBranch: gid with NUL", "registerBranch", tcc_branch(gid="a\x00b"), 400, control))
    return bad


def urls_and_headers() -> list[Bad]:
    """URLs and headers that would do something else than they say."""
    spoof = "has a query parameter {!r} of its own; the server adds it to every call"
    http_only = "no installed caller takes a http branch with a URL like {!r}"
    urls = [
        ("own gid", f"{NOWHERE}?gid=1", 400, spoof.format("gid")),
        ("own op", f"{NOWHERE}?a=1&op=action", 400, spoof.format("op")),
        ("own branch_id, escaped", f"{NOWHERE}?branch%5fid=1", 400, spoof.format("branch_id")),
        ("user name", "http://me@127.0.0.1/", 400, "it contains a user name or password; send them in a branch header"),
        (
            "password",
            "http://me:pw@127.0.0.1/",
            400,
            "it contains a user name or password; send them in a branch header",
        ),
        (
            "line break",
            "http://127.0.0.1/\r\nX-Evil: 1",
            400,
            "contains a space or a control character; percent-encode it",
        ),
        ("space", "http://127.0.0.1/a b", 400, "contains a space or a control character; percent-encode it"),
        ("scheme ftp", "ftp://127.0.0.1/", 400, "the scheme ftp:// cannot be called over HTTP"),
        ("scheme file", "file:///etc/passwd", 400, "the scheme file:// cannot be called over HTTP"),
        ("no scheme", "127.0.0.1/a", 400, "it is not a URL of the form http://host/path"),
        ("no host", "http:///a", 400, "it has no valid host name in ''"),
        ("port 0", "http://127.0.0.1:0/", 400, "'0' is not a port number from 1 to 65535"),
        ("port 65536", "http://127.0.0.1:65536/", 400, "'65536' is not a port number from 1 to 65535"),
        ("4,097 bytes", "http://127.0.0.1/" + "a" * 4080, 413, "is longer than 4096 bytes; send a shorter URL"),
    ]
    bad = []
    for name, url, status, text in urls:
        steps = [{"action": url, "compensate": ""}]
        bad.append(post(f"action with {name}", "submit", saga(steps=steps), status, f"steps[0].action: {text}"))
    steps = [{"action": "", "compensate": f"{NOWHERE}?op=x"}]
    bad.append(
        post("compensate with own op", "submit", saga(steps=steps), 400, f"steps[0].compensate: {spoof.format('op')}")
    )
    bad.append(
        post(
            "query_prepared with own gid",
            "prepare",
            msg(query_prepared=f"{NOWHERE}?gid=x"),
            400,
            f"query_prepared: {spoof.format('gid')}",
        )
    )
    bad.append(
        post(
            "grpc URL",
            "submit",
            saga(protocol="grpc", steps=[{"action": "localhost:1/a.B/c", "compensate": ""}]),
            400,
            "steps[0].action: " + http_only.format("localhost:1/a.B/c").replace("a http", "a grpc"),
        )
    )
    topic = [{"action": "topic://news", "compensate": ""}]
    bad.append(
        post(
            "saga to a topic",
            "submit",
            saga(steps=topic),
            400,
            "steps[0].action: names a topic; only the action of a msg can be a topic",
        )
    )
    long_topic = [{"action": f"topic://{'t' * 129}"}]
    bad.append(
        post(
            "long topic",
            "submit",
            msg(steps=long_topic),
            400,
            "steps[0].action: is 129 bytes long; send at most 128 bytes of UTF-8",
        )
    )
    reserved = "is reserved; the server sets this header itself"
    broken = "has a control character in its value; remove line breaks and NUL"
    headers = [
        ({"X-A": "1\r\nX-B: 2"}, 400, f"branch_headers['X-A']: {broken}"),
        ({"X-A": "1\x00"}, 400, f"branch_headers['X-A']: {broken}"),
        (
            {"X-A\r\nX-B": "1"},
            400,
            "branch_headers['X-A\\r\\nX-B']: is no header name; use letters, digits and !#$%&'*+-.^_`|~",
        ),
        ({"": "1"}, 400, "branch_headers['']: is no header name; use letters, digits and !#$%&'*+-.^_`|~"),
        ({"Host": "evil"}, 400, f"branch_headers['Host']: {reserved}"),
        ({"content-length": "0"}, 400, f"branch_headers['content-length']: {reserved}"),
        ({"Transfer-Encoding": "chunked"}, 400, f"branch_headers['Transfer-Encoding']: {reserved}"),
        ({"dtm-gid": "1"}, 400, f"branch_headers['dtm-gid']: {reserved}"),
        ({f"x-{i}": "1" for i in range(65)}, 413, "branch_headers: has 65 headers; send at most 64"),
        ({"x": "1" * 8192}, 413, "branch_headers: is 8193 bytes in all; send at most 8192"),
    ]
    for number, (values, status, text) in enumerate(headers):
        bad.append(post(f"headers {number}: {text[:40]}", "submit", saga(branch_headers=values), status, text))
    return bad


def registrations() -> list[Bad]:
    """Bad registrations, at all three names of the verb."""
    bad = []
    for verb in ("registerBranch", "registerTccBranch", "registerXaBranch"):
        bad += [
            post(
                f"{verb}: empty body",
                verb,
                b"",
                400,
                "EOF: the request has no body; send a JSON object whose values are texts",
                TEXT,
            ),
            post(f"{verb}: a list", verb, b"[]", 400, NO_TEXTS.format("Expected `object`, got `array`"), TEXT),
            post(
                f"{verb}: data is an object",
                verb,
                tcc_branch(data={}),
                400,
                "data: is not a text (Expected `str | null`, got `object`); send every value as a text",
                TEXT,
            ),
        ]
    return [
        *bad,
        post(
            "registerBranch: unknown field is a number",
            "registerBranch",
            tcc_branch(level=1),
            400,
            "level: is not a text (Expected `str | null`, got `int`); send every value as a text",
            TEXT,
        ),
        post("registerBranch: nested deep", "registerBranch", f'{{"x":{DEEP}}}'.encode(), 400, TOO_DEEP, TEXT),
        post(
            "registerBranch: saga",
            "registerBranch",
            tcc_branch(trans_type="saga"),
            500,
            "trans_type: unknow trans type: saga; branches: tcc, xa, workflow",
        ),
        post(
            "registerBranch: no branch_id",
            "registerBranch",
            tcc_branch(branch_id=None),
            400,
            "branch_id: is empty; send the branch's id, for example '01'",
        ),
        post(
            "registerBranch: long branch_id",
            "registerBranch",
            tcc_branch(branch_id="1" * 129),
            400,
            "branch_id: is 129 bytes long; send at most 128 bytes of UTF-8",
        ),
        post(
            "registerBranch: confirm with own op",
            "registerBranch",
            tcc_branch(confirm=f"{NOWHERE}?op=x"),
            400,
            "confirm: has a query parameter 'op' of its own; the server adds it to every call",
        ),
        post(
            "registerBranch: cancel with user name",
            "registerBranch",
            tcc_branch(cancel="http://me@h/"),
            400,
            "cancel: it contains a user name or password; send them in a branch header",
        ),
        post(
            "registerBranch: workflow status unknown",
            "registerBranch",
            {"gid": "flow", "trans_type": "workflow", "branch_id": "02", "op": "action", "status": "done"},
            400,
            "status: is 'done'; send 'succeed' or 'failed'",
        ),
        post(
            "registerBranch: workflow without op",
            "registerBranch",
            {"gid": "flow", "trans_type": "workflow", "branch_id": "02", "status": "succeed"},
            400,
            "op: is empty; send the operation's name",
        ),
        post(
            "registerBranch: long op",
            "registerBranch",
            {"gid": "flow", "trans_type": "workflow", "branch_id": "02", "op": "o" * 46, "status": "succeed"},
            400,
            "op: is 46 bytes long; send at most 45 bytes of UTF-8",
        ),
        post(
            "registerBranch: no such gid",
            "registerBranch",
            tcc_branch(gid="nobody"),
            409,
            failure("no trans with gid: nobody status: prepared found FAILURE"),
        ),
        post(
            "registerBranch: finished",
            "registerBranch",
            tcc_branch(gid="stopped"),
            409,
            failure("no trans with gid: stopped status: prepared found FAILURE"),
        ),
        post(
            "registerBranch: same branch, other content",
            "registerBranch",
            tcc_branch(branch_id="01", data="9"),
            409,
            failure("storage: UniqueKeyConflict: branch 01 cancel exists with other content. FAILURE"),
        ),
    ]


def states() -> list[Bad]:
    """Requests that the state of a transaction forbids."""
    unknown = "no TransGlobal with gid: nobody found"
    tcc = {"gid": "open", "trans_type": "tcc"}
    return [
        post("abort unknown", "abort", {"gid": "nobody", "trans_type": "tcc"}, 500, unknown),
        post("forceStop unknown", "forceStop", {"gid": "nobody"}, 500, unknown),
        post("resetNextCronTime unknown", "resetNextCronTime", {"gid": "nobody"}, 500, unknown),
        post(
            "abort without trans_type",
            "abort",
            {"gid": "open"},
            409,
            failure("trans type: 'tcc' current status 'prepared', cannot abort. FAILURE"),
        ),
        post(
            "abort of a saga",
            "abort",
            {"gid": "done", "trans_type": "saga"},
            409,
            failure("trans type: 'saga' current status 'succeed', cannot abort. FAILURE"),
        ),
        post(
            "abort of a workflow",
            "abort",
            {"gid": "flow", "trans_type": "workflow"},
            409,
            failure("trans type: 'workflow' current status 'prepared', cannot abort. FAILURE"),
        ),
        post(
            "forceStop of a finished one",
            "forceStop",
            {"gid": "done"},
            409,
            failure("global transaction force stop error. status: succeed. error: FAILURE"),
        ),
        post(
            "prepare again, finished",
            "prepare",
            {"gid": "stopped", "trans_type": "tcc"},
            409,
            failure("current status 'failed', cannot prepare. FAILURE"),
        ),
        post(
            "prepare again, other content",
            "prepare",
            {**tcc, "custom_data": "x"},
            409,
            failure("gid 'open' is prepared with other content. FAILURE"),
        ),
        post(
            "submit as another mode", "submit", msg(gid="open"), 409, failure("gid 'open' is a tcc, not a msg. FAILURE")
        ),
        post(
            "submit again, other content",
            "submit",
            saga(gid="done"),
            409,
            failure("current status 'succeed', cannot sumbmit.  FAILURE"),
        ),
        post(
            "submit of a stopped one",
            "submit",
            {"gid": "stopped", "trans_type": "tcc"},
            409,
            failure("current status 'failed', cannot sumbmit. stopped by force; no branch was called for it FAILURE"),
        ),
        post(
            "submit of an unknown workflow",
            "submit",
            {"gid": "nobody", "trans_type": "workflow", "req_extra": {"status": "succeed"}},
            500,
            "storage: NotFound: no workflow with gid 'nobody'",
        ),
        post(
            "submit of a workflow without status",
            "submit",
            {"gid": "flow", "trans_type": "workflow"},
            400,
            "req_extra.status: is ''; send 'succeed' or 'failed'",
        ),
        post(
            "prepareWorkflow of a tcc's gid",
            "prepareWorkflow",
            {"gid": "open", "trans_type": "workflow"},
            409,
            failure("gid 'open' is a tcc, not a workflow. FAILURE"),
        ),
        post(
            "message to an unknown topic",
            "submit",
            msg(steps=[{"action": "topic://silence"}]),
            500,
            "topic not found: 'silence' has no subscribers",
        ),
    ]


def queries() -> list[Bad]:
    """Bad query strings."""
    number = "convert to int error: {!r}; send a whole number"
    back = "position: convert to int error: unknown position 'zzz'; send next_position back"
    bad = [
        get(f"all: limit={value}", f"all?limit={value}", 500, f"limit: {number.format(value)}")
        for value in ("x", "1.5", "1_0", "1e3", "x" * 90)
    ]
    bad += [
        get(f"all: {name} no number", f"all?{name}=yesterday", 500, f"{name}: {number.format('yesterday')}")
        for name in ("createTimeStart", "createTimeEnd")
    ]
    return [
        *bad,
        get("all: limit negative", "all?limit=-1", 400, "limit: is -1; send a whole number from 0 to 1000"),
        get("all: limit 1,001", "all?limit=1001", 400, "limit: is 1001; send a whole number from 0 to 1000"),
        get(
            "all: limit of 5,000 digits",
            "all?limit=" + "9" * 5000,
            500,
            f"limit: {number.format('9' * 85 + ' ...(truncated)')}",
        ),
        get("all: position", "all?position=zzz", 500, back),
        get("query without gid", "query", 500, "no gid specified; send ?gid=…"),
        get("resetCronTime: timeout", "resetCronTime?timeout=x", 500, f"timeout: {number.format('x')}"),
        get(
            "resetCronTime: timeout negative",
            "resetCronTime?timeout=-1",
            400,
            "timeout: is -1; send a whole number from 0 to 315360000",
        ),
        get(
            "resetCronTime: limit",
            "resetCronTime?limit=1001",
            400,
            "limit: is 1001; send a whole number from 0 to 1000",
        ),
        get("scanKV: limit", "scanKV?limit=x", 500, f"limit: {number.format('x')}"),
        get("scanKV: position", "scanKV?position=zzz", 500, back),
        get("subscribe without topic", f"subscribe?url={NOWHERE}", 500, "topic: empty topic"),
        get("subscribe without url", "subscribe?topic=news", 500, "url: empty url"),
        get("subscribe twice", f"subscribe?topic=news&url={NOWHERE}", 500, "this url exists"),
        get(
            "subscribe: topic of 129 bytes",
            f"subscribe?topic={'t' * 129}&url={NOWHERE}",
            400,
            "topic: is 129 bytes long; send at most 128 bytes of UTF-8",
        ),
        get(
            "subscribe: NUL",
            f"subscribe?topic=%00&url={NOWHERE}",
            400,
            "topic: contains a control character; send printable characters only",
        ),
        get(
            "subscribe: own gid",
            "subscribe?topic=news&url=" + quote(f"{NOWHERE}?gid=1"),
            400,
            "url: has a query parameter 'gid' of its own; the server adds it to every call",
        ),
        get(
            "subscribe: user name",
            "subscribe?topic=news&url=http://me@h/",
            400,
            "url: it contains a user name or password; send them in a branch header",
        ),
        get(
            "subscribe: long remark",
            f"subscribe?topic=news&url=http://h/&remark={'r' * 1025}",
            413,
            "remark: is longer than 1024 bytes; send less",
        ),
        get("unsubscribe: no such topic", f"unsubscribe?topic=silence&url={NOWHERE}", 500, "no such a topic"),
        get("unsubscribe: no such url", "unsubscribe?topic=news&url=http://h/", 500, "no such an url "),
        Bad(
            "delete an unknown topic",
            "DELETE",
            "/api/dtmsvr/topic/silence",
            None,
            500,
            message("storage: NotFound: no topic 'silence'"),
        ),
    ]


def routes() -> list[Bad]:
    """Paths and methods that are none."""
    return [
        elsewhere("unknown path", "GET", "/api/dtmsvr/nothing"),
        elsewhere("the root", "GET", "/"),
        elsewhere("GET of a POST", "GET", "/api/dtmsvr/submit"),
        elsewhere("POST of a GET", "POST", "/api/dtmsvr/newGid"),
        elsewhere("PUT", "PUT", "/api/dtmsvr/submit"),
        elsewhere("DELETE", "DELETE", "/api/dtmsvr/submit"),
        elsewhere("OPTIONS", "OPTIONS", "/api/dtmsvr/submit"),
        elsewhere("other case", "POST", "/api/dtmsvr/SUBMIT"),
        elsewhere("escaped name", "POST", "/api/dtmsvr/%73ubmi%74x"),
        elsewhere("path traversal", "GET", "/api/dtmsvr/../../etc/passwd"),
        elsewhere("two slashes", "GET", "//other.example/"),
        elsewhere("topic without a name", "DELETE", "/api/dtmsvr/topic/"),
        Bad("HEAD", "HEAD", "/api/dtmsvr/newGid", None, 404, b"", TEXT),
    ]


TABLE = [
    *transaction_bodies(),
    *fields(),
    *gids(),
    *urls_and_headers(),
    *registrations(),
    *states(),
    *queries(),
    *routes(),
]
