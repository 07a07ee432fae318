"""Arguments and results of workflows and their steps: to the bytes that are recorded, and back.

bytes     as they are
None      no bytes
the rest  JSON: texts, numbers, lists, dicts, dataclasses, msgspec Structs, pydantic models, dates, …

What a step returned is always read back from the bytes, in the first run too: a replay then cannot give
the workflow anything else.
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Coroutine
from types import NoneType, SimpleNamespace
from typing import Any

import msgspec

from reefknot.errors import Invalid


def encode(value: Any, kind: Any, what: str) -> bytes:
    """The bytes of a value.

    Args:
        value: what is to be recorded.
        kind: its type; Any where nothing says it.
        what: what it is, for the error.

    Raises:
        Invalid: it cannot be recorded, or would not come back as it is.
    """
    if isinstance(value, bytes) != (kind is bytes):
        problem = f"is a {type(value).__name__}" if kind is bytes else "is bytes, and nothing says so"
        raise Invalid(what, problem, "annotate the function's return type, or pass returns=")
    data = _encoded(value, what)
    came_back = decode(data, kind, what)
    if kind is Any and came_back != value:
        problem = f"is a {type(value).__name__}, which a replay would give back as {type(came_back).__name__}"
        raise Invalid(what, problem, "annotate the function's return type, or pass returns=")
    return data


def decode(data: bytes, kind: Any, what: str) -> Any:
    """The value of recorded bytes.

    Args:
        data: what ``encode`` made.
        kind: the type it was made of; Any where nothing says it.
        what: what it is, for the error.

    Raises:
        Invalid: they are no value of this type.
    """
    if kind is bytes:
        return data
    try:
        return msgspec.json.decode(data or b"null", type=NoneType if kind is None else kind, dec_hook=_other_type)
    except (ValueError, TypeError, RecursionError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise Invalid(what, f"is no {name}: {error}", "return what the annotation or returns= says") from error


def json_arguments(values: dict[str, Any]) -> bytes:
    """A workflow's arguments, by their names.

    Raises:
        Invalid: one of them cannot be recorded.
    """
    return _encoded(values, "arguments")


def in_order(value: Any) -> bytes:
    """A value that has been recorded as bytes that are the same whenever the value is."""
    return msgspec.json.encode(value, enc_hook=_plain, order="deterministic")


def read_arguments(data: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """What ``json_arguments`` made, with the types of the function's parameters.

    Raises:
        ValueError: they do not fit.
    """
    return msgspec.json.decode(data or b"{}", type=kind, dec_hook=_other_type)


def returned_kind(function: Callable[..., Any]) -> Any:
    """The type that a function says it returns, or that what it returns is awaited to; Any if it says nothing."""
    try:
        return hints(function).get("return", Any)
    except Invalid:
        return Any


def hints(function: Callable[..., Any], *, without: str = "") -> dict[str, Any]:
    """The types of a function's parameters and of its ``return``, as far as they are given.

    Args:
        function: any callable.
        without: a parameter that does not matter.

    Raises:
        Invalid: one of them names what does not exist at the top of the function's module.
    """
    given = {name: kind for name, kind in getattr(function, "__annotations__", {}).items() if name != without}
    try:
        found = typing.get_type_hints(
            SimpleNamespace(__annotations__=given), globalns=getattr(function, "__globals__", {})
        )
    except NameError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise Invalid(
            "function", f"the annotations of {name}: {error}", "define it at the top of the module"
        ) from error
    kind = found.get("return")
    if typing.get_origin(kind) in (Awaitable, Coroutine):
        found["return"] = typing.get_args(kind)[-1]
    return found


def _encoded(value: Any, what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        fix = "use a dict, list, text, number, dataclass, msgspec Struct, pydantic model or bytes"
        raise Invalid(what, f"a {type(value).__name__} cannot be recorded ({error})", fix) from error


def _plain(value: Any) -> Any:
    """A pydantic model as msgspec can write it."""
    if (dump := getattr(value, "model_dump", None)) is not None:
        return dump(mode="json")
    raise TypeError(f"there is no rule for a {type(value).__name__}")


def _other_type(kind: Any, value: Any) -> Any:
    """A pydantic model from what msgspec has read."""
    if (validate := getattr(kind, "model_validate", None)) is not None:
        return validate(value)
    raise TypeError(f"there is no rule for a {getattr(kind, '__name__', kind)}")
