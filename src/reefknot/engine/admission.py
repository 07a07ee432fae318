"""What is refused at the door: lengths, counts, ranges, characters.

The limits are documented in docs/limits.md; ``Limits`` is their only source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from reefknot.engine.mode import TOPIC_SCHEME, Mode
from reefknot.errors import Invalid, TooLarge
from reefknot.model import BRANCH_QUERY, BranchOp, BranchRequest, Options, TransactionRequest

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE_IN_URL = re.compile(r"[\x00-\x20\x7f]")
#: What most URLs are; they need no further look (0.2 µs instead of 1.5).
_PLAIN_URL = re.compile(r"[!->@-~]{0,1000}")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Set by the caller, by HTTP itself or by gRPC: a client's header must not replace them.
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect"}
)
_RESERVED_PREFIXES = ("dtm-", "grpc-", "proxy-", ":")
_DAY_SECONDS = 86_400


class Limits(msgspec.Struct, frozen=True):
    """Every limit of a request; bytes are counted in UTF-8."""

    name_bytes: int = 128
    op_bytes: int = 45
    url_bytes: int = 4_096
    steps: int = 1_000
    headers: int = 64
    header_bytes: int = 8_192
    custom_data_bytes: int = 1_048_576
    custom_data_depth: int = 32
    protocol_bytes: int = 45
    request_timeout_seconds: int = _DAY_SECONDS
    retry_seconds: int = _DAY_SECONDS
    timeout_seconds: int = 365 * _DAY_SECONDS
    retry_limit: int = 10_000


def check_gid(gid: str, limits: Limits) -> None:
    """The same rule on every protocol; DTM deletes characters over HTTP and not elsewhere.

    Raises:
        Invalid: the gid is empty, too long, or has a character that some client would drop.
    """
    if not gid:
        raise Invalid("gid", "is empty (key required)", "send a unique id, for example one from newGid", status=500)
    _check_text("gid", gid, limits.name_bytes)
    if ";" in gid:
        raise Invalid("gid", "contains ';'", "DTM's clients delete that character: choose another one")


def check_request(request: TransactionRequest, mode: Mode, limits: Limits) -> None:
    """Refuse a prepare or submit that could not be carried out.

    Raises:
        Invalid: naming the field, the problem and the fix.
    """
    check_gid(request.gid, limits)
    if len(request.steps) > limits.steps:
        raise TooLarge("steps", f"has {len(request.steps)} elements", f"send at most {limits.steps}")
    if len(request.payloads) < len(request.steps):
        counts = f"index out of range: {len(request.steps)} steps but {len(request.payloads)} payloads"
        raise Invalid("payloads", counts, "send one text for each step", status=500)
    if request.custom_data:
        if len(request.custom_data.encode()) > limits.custom_data_bytes:
            raise TooLarge("custom_data", f"is longer than {limits.custom_data_bytes} bytes", "send less")
        _check_depth(request.custom_data, limits.custom_data_depth)
    if request.protocol != "http":
        _check_text("protocol", request.protocol, limits.protocol_bytes)
    _check_options(request.options, limits)
    if request.options.headers:
        _check_headers(request.options.headers, limits)
    check_url("query_prepared", request.query_prepared, limits)
    for number, step in enumerate(request.steps):
        for key, url in step.items():
            if url.startswith(TOPIC_SCHEME):
                _check_topic(f"steps[{number}].{key}", url.removeprefix(TOPIC_SCHEME), mode.topics(request), limits)
            elif not _PLAIN_URL.fullmatch(url):
                check_url(f"steps[{number}].{key}", url, limits)
    mode.check(request)


def check_branch(request: BranchRequest, ops: tuple[BranchOp, ...], limits: Limits) -> None:
    """Refuse a registration that could not be carried out.

    Raises:
        Invalid: naming the field, the problem and the fix.
    """
    check_gid(request.gid, limits)
    if not request.branch_id:
        raise Invalid("branch_id", "is empty", "send the branch's id, for example '01'")
    _check_text("branch_id", request.branch_id, limits.name_bytes)
    for op in ops:
        if not op.op:
            raise Invalid("op", "is empty", "send the operation's name")
        _check_text("op", op.op, limits.op_bytes)
        check_url("url" if "url" in request.fields else op.op, op.url, limits)


def check_url(field: str, url: str, limits: Limits) -> None:
    """Refuse a URL that is too long, has control characters, or spoofs a branch's identity.

    Whether some caller can call it is the callers' matter.

    Raises:
        Invalid: naming the field.
    """
    if not url:
        return
    if len(url.encode()) > limits.url_bytes:
        raise TooLarge(field, f"is longer than {limits.url_bytes} bytes", "send a shorter URL")
    if _UNSAFE_IN_URL.search(url):
        raise Invalid(field, "contains a space or a control character", "percent-encode it")
    if "?" not in url:
        return
    for key, _ in parse_qsl(url.partition("?")[2].partition("#")[0], keep_blank_values=True):
        if key in BRANCH_QUERY:
            raise Invalid(field, f"has a query parameter {key!r} of its own", "the server adds it to every call")


def check_name(field: str, name: str, limits: Limits) -> None:
    """Refuse a name that is too long or has control characters.

    Raises:
        Invalid: naming the field.
    """
    _check_text(field, name, limits.name_bytes)


def _check_topic(field: str, topic: str, known: tuple[str, ...], limits: Limits) -> None:
    """Refuse a topic's name that no topic can have, or a topic where the mode knows none."""
    if topic not in known:
        raise Invalid(field, "names a topic", "only the action of a msg can be a topic")
    check_name(field, topic, limits)


def _check_text(field: str, value: str, most_bytes: int) -> None:
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > most_bytes:
        raise Invalid(field, f"is {size} bytes long", f"send at most {most_bytes} bytes of UTF-8")
    if _CONTROL.search(value):
        raise Invalid(field, "contains a control character", "send printable characters only")


def _check_depth(json_text: str, most: int) -> None:
    """Refuse what a decoder could read here but not with a fuller stack, when the transaction is driven."""
    if json_text.count("[") + json_text.count("{") <= most:
        return
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _JSON_STRING.sub("", json_text)):
        depth += 1 if bracket in "[{" else -1
        if depth > most:
            raise Invalid("custom_data", f"is nested deeper than {most} levels", "send fewer levels")


def _check_options(options: Options, limits: Limits) -> None:
    ranges = (
        ("timeout_to_fail", options.timeout_seconds, limits.timeout_seconds),
        ("request_timeout", options.request_timeout_seconds, limits.request_timeout_seconds),
        ("retry_interval", options.retry_seconds, limits.retry_seconds),
        ("retry_limit", options.retry_limit, limits.retry_limit),
    )
    for field, value, most in ranges:
        if not 0 <= value <= most:
            raise Invalid(field, f"is {value}", f"send a whole number from 0 (not set) to {most}")


def _check_headers(headers: Mapping[str, str], limits: Limits) -> None:
    if len(headers) > limits.headers:
        raise TooLarge("branch_headers", f"has {len(headers)} headers", f"send at most {limits.headers}")
    size = 0
    for name, value in headers.items():
        field = f"branch_headers[{name!r}]"
        lowered = name.lower()
        if not _TOKEN.fullmatch(name):
            raise Invalid(field, "is no header name", "use letters, digits and !#$%&'*+-.^_`|~")
        if lowered in _RESERVED_HEADERS or lowered.startswith(_RESERVED_PREFIXES):
            raise Invalid(field, "is reserved", "the server sets this header itself")
        if _CONTROL.search(value.replace("\t", " ")):
            raise Invalid(field, "has a control character in its value", "remove line breaks and NUL")
        size += len(name) + len(value.encode())
    if size > limits.header_bytes:
        raise TooLarge("branch_headers", f"is {size} bytes in all", f"send at most {limits.header_bytes}")
