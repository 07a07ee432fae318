"""Bad bodies, fields, gids, URLs and headers of requests about one transaction."""

from __future__ import annotations

from wire.bad_case import (
    BEYOND,
    DEEP,
    KINDS,
    LONG_GID,
    NO_JSON,
    NOWHERE,
    TOO_DEEP,
    Bad,
    message,
    msg,
    post,
    saga,
    tcc_branch,
)


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
        (
            "scheme ftp",
            "ftp://127.0.0.1/",
            400,
            "no discovery driver reads ftp://",
        ),
        (
            "scheme file",
            "file:///etc/passwd",
            400,
            "no discovery driver reads file://",
        ),
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
    grpc_urls = [
        ("no method", "localhost:1", "no '/' found between the target and the method; write {}"),
        ("no port", "localhost/a.B/c", "no port found in 'localhost'; write {}"),
        ("half a method", "localhost:1/c", "'/c' names no method; write {}"),
        (
            "a password",
            "me:secret@localhost:1/a.B/c",
            "it contains a user name or password; send them in a branch header",
        ),
        ("a scheme", "xds:///bank/a.B/c", "no discovery driver reads xds://"),
    ]
    for protocol in ("grpc", "json-rpc"):
        for name, url, problem in grpc_urls:
            text = "steps[0].action: " + problem.format("host:port/package.Service/Method")
            request = saga(protocol=protocol, steps=[{"action": url, "compensate": ""}])
            bad.append(post(f"{protocol} URL with {name}", "submit", request, 400, text))
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
