"""JSON bodies of DTM's clients, translated into requests.

Clients in the field rely on Go's lenient decoding: field names match without case, unknown fields
are ignored, null leaves a field at its zero value. The first, typed attempt covers what official
clients send; anything it does not like goes through the lenient path, which also writes the
errors. One submit of 394 bytes costs 1.2 µs on the typed path and 4 µs on the lenient one.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from reefknot.errors import Invalid
from reefknot.model import BranchRequest, Options, TransactionRequest

Step = dict[str, str | None]


class WireTransaction(msgspec.Struct, forbid_unknown_fields=True):
    """The body of prepare, submit, abort and their relatives (spec of DTM, field by field)."""

    gid: str | None = None
    trans_type: str | None = None
    steps: list[Step | None] | None = None
    payloads: list[str | None] | None = None
    query_prepared: str | None = None
    protocol: str | None = None
    custom_data: str | None = None
    wait_result: bool | None = None
    timeout_to_fail: int | None = None
    request_timeout: int | None = None
    retry_interval: int | None = None
    branch_headers: dict[str, str | None] | None = None
    concurrent: bool | None = None
    retry_limit: int | None = None
    rollback_reason: str | None = None
    req_extra: dict[str, str | None] | None = None
    # Sent by clients and without meaning for the server.
    passthrough_headers: msgspec.Raw | None = None
    subType: msgspec.Raw | None = None  # noqa: N815  the Java client's spelling
    retry_count: msgspec.Raw | None = None


_FIELDS = frozenset(WireTransaction.__struct_fields__)
_TYPES = {field.name: field.type for field in msgspec.structs.fields(WireTransaction)}
_IGNORED = frozenset({"passthrough_headers", "subType", "retry_count"})
_TYPED = msgspec.json.Decoder(WireTransaction)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXTS = msgspec.json.Decoder(dict[str, str | None])
_NULL = b"null"
#: What to send where a field has the wrong type; every other field is a text.
_WANTED = {
    "steps": "a list of objects whose values are texts",
    "payloads": "a list of texts",
    "wait_result": "true or false",
    "concurrent": "true or false",
    "timeout_to_fail": "a whole number",
    "request_timeout": "a whole number",
    "retry_interval": "a whole number",
    "retry_limit": "a whole number",
    "branch_headers": "an object whose values are texts",
    "req_extra": "an object whose values are texts",
}
#: What the decoder raises for a body that is no JSON of the wanted form, or no UTF-8.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


def transaction_request(body: bytes) -> TransactionRequest:
    """Translate the JSON body of a request about one transaction.

    Raises:
        Invalid: it is not a JSON object, or a field has the wrong type; status 500 as with DTM.
    """
    try:
        try:
            wire = _TYPED.decode(body)
        except _UNREADABLE:
            wire = _lenient(body)
    except RecursionError:
        raise _too_deep() from None
    return _request(wire)


def transaction_fields(fields: dict[str, Any]) -> TransactionRequest:
    """The same for a decoded object, for protocols that carry it inside another one."""
    return transaction_request(msgspec.json.encode(fields))


def branch_request(body: bytes) -> BranchRequest:
    """Translate the JSON body of a branch registration: a flat object of texts.

    Raises:
        Invalid: it is not one, or a value is no text; status 400 as with DTM.
    """
    if not body.strip():
        raise Invalid("", "EOF: the request has no body", "send a JSON object whose values are texts", status=400)
    try:
        try:
            raw = _TEXTS.decode(body)
        except _UNREADABLE as error:
            raise _not_texts(body, error) from error
    except RecursionError:
        raise _too_deep() from None
    known = ("gid", "trans_type", "branch_id", "data", "confirm", "cancel", "url", "op", "status", "sync")
    fields: dict[str, str] = {}
    for key, value in raw.items():
        name = key if key in known else key.lower()
        if value is not None and (name not in fields or key == name):
            fields[name] = value
    return BranchRequest(
        gid=fields.pop("gid", ""),
        mode=fields.pop("trans_type", ""),
        branch_id=fields.pop("branch_id", ""),
        payload=fields.pop("data", "").encode(),
        fields=fields,
    )


def _too_deep() -> Invalid:
    return Invalid("", "the JSON is nested too deeply", "send the fields as documented: none needs three levels")


def _not_texts(body: bytes, error: Exception) -> Invalid:
    """What is wrong with the body of a registration; names the field if the body is an object."""
    try:
        members = _OBJECT.decode(body)
    except _UNREADABLE:
        return Invalid("", f"the body is not a JSON object of texts ({error})", "send every value as a text")
    for name, value in members.items():
        try:
            msgspec.json.decode(value, type=str | None)
        except _UNREADABLE as wrong:
            return Invalid(name, f"is not a text ({wrong})", "send every value as a text")
    return Invalid("", f"the body is not a JSON object of texts ({error})", "send every value as a text")


def _lenient(body: bytes) -> WireTransaction:
    if not body.strip():
        raise Invalid("", "unexpected end of JSON input", "send a JSON object", status=500)
    try:
        members = _OBJECT.decode(body)
    except _UNREADABLE as error:
        raise Invalid("", f"the body is not a JSON object ({error})", "send a JSON object", status=500) from error
    chosen: dict[str, msgspec.Raw] = {}
    for key, value in members.items():
        name = key if key in _FIELDS else key.lower()
        if name in _FIELDS and name not in _IGNORED and bytes(value) != _NULL and (name not in chosen or key == name):
            chosen[name] = value
        elif name == "context" and bytes(value) != _NULL:
            raise Invalid("context", "cannot be sent by a client", "leave it out", status=500)
    wire = WireTransaction()
    for name, value in chosen.items():
        try:
            setattr(wire, name, msgspec.json.decode(value, type=_TYPES[name]))
        except _UNREADABLE as error:
            wanted = f"send {_WANTED.get(name, 'a text')}"
            raise Invalid(name, f"has the wrong type ({error})", wanted, status=500) from error
    return wire


def _request(wire: WireTransaction) -> TransactionRequest:
    payloads = [payload.encode() if payload else b"" for payload in wire.payloads or ()]
    steps: list[dict[str, str]] = []
    for step in wire.steps or ():
        texts = _texts(step)
        # The oldest clients put the payload into the step itself.
        if "data" in texts and (data := texts.pop("data")):
            payloads.append(data.encode())
        steps.append(texts)
    return TransactionRequest(
        gid=wire.gid or "",
        mode=wire.trans_type or "",
        steps=tuple(steps),
        payloads=tuple(payloads),
        query_prepared=wire.query_prepared or "",
        protocol=wire.protocol or "http",
        custom_data=wire.custom_data or "",
        options=Options(
            wait=bool(wire.wait_result),
            timeout_seconds=wire.timeout_to_fail or 0,
            request_timeout_seconds=wire.request_timeout or 0,
            retry_seconds=wire.retry_interval or 0,
            retry_limit=wire.retry_limit or 0,
            concurrent=bool(wire.concurrent),
            headers=_texts(wire.branch_headers),
        ),
        reason=wire.rollback_reason or "",
        extra=_texts(wire.req_extra),
    )


def _texts(members: dict[str, str | None] | None) -> dict[str, str]:
    """The members with empty texts for nulls; the same dictionary where there is none."""
    if not members:
        return {}
    if None in members.values():
        return {key: value or "" for key, value in members.items()}
    return cast("dict[str, str]", members)
