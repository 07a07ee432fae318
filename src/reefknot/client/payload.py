"""A branch's payload: from what a program has at hand to bytes.

dict, list, str, numbers, None, dataclass, msgspec.Struct    JSON
pydantic model                                               its ``model_dump_json``
protobuf message                                             itself over gRPC, JSON over HTTP
bytes                                                        as they are
"""

from __future__ import annotations

from typing import Any

import msgspec

from reefknot.errors import Invalid

#: What is sent for no data. An empty body would turn the HTTP call into a GET.
EMPTY_OBJECT = b"{}"


def encode(data: Any, *, binary: bool = False) -> bytes:
    """The payload as it is sent.

    Args:
        data: what the caller gave. None is an empty JSON object, so that an HTTP branch gets a POST;
            ``b""`` is no body at all, which an HTTP branch gets as a GET.
        binary: whether the branch is called over gRPC: a protobuf message is then sent as itself, and
            None as an empty message.

    Raises:
        Invalid: there is no rule for a value of this kind.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if data is None:
        return b"" if binary else EMPTY_OBJECT
    if (dump := getattr(data, "model_dump_json", None)) is not None:
        text: str = dump()
        return text.encode()
    if (serialize := getattr(data, "SerializeToString", None)) is not None:
        serialized: bytes = serialize()
        return serialized if binary else _protobuf_json(data)
    try:
        return msgspec.json.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        fix = "pass a dict, list, text, number, dataclass, msgspec Struct, pydantic model, protobuf message or bytes"
        raise Invalid("data", f"a {type(data).__name__} cannot be encoded ({error})", fix) from error


def as_text(payload: bytes, field: str) -> str:
    """The payload as the text that DTM's HTTP protocol carries.

    Raises:
        Invalid: the bytes are no UTF-8.
    """
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        fix = "start the transaction over grpc://, which carries any bytes, or encode them, for example in base64"
        raise Invalid(field, "these bytes are no UTF-8, and the HTTP protocol carries text", fix) from error


def _protobuf_json(message: Any) -> bytes:
    from google.protobuf.json_format import MessageToJson  # noqa: PLC0415 - there only where protobuf is

    text: str = MessageToJson(message, indent=None)
    return text.encode()
