"""One bad request with its exact reply, and the good requests that are changed to make it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

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
