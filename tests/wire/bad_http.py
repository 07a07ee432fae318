"""The table of bad HTTP input: what is sent, and the exact reply.

The store holds, before and after: ``done`` (a saga that succeeded), ``stopped`` (a TCC that was
stopped by force), ``open`` (a prepared TCC with branch 01), ``letter`` (a prepared message),
``flow`` (a prepared workflow with step 01), and the topic ``news`` with one subscriber.
"""

from __future__ import annotations

from urllib.parse import quote

from wire.bad_case import (
    DEEP,
    NO_TEXTS,
    NOWHERE,
    TEXT,
    TOO_DEEP,
    Bad,
    elsewhere,
    failure,
    get,
    message,
    msg,
    post,
    saga,
    tcc_branch,
)
from wire.bad_fields import fields, gids, transaction_bodies, urls_and_headers


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
        get("query without gid", "query", 500, "no gid specified; send the gid of a transaction"),
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
