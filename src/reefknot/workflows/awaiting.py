"""Whether a function is of the kind that a workflow can call: found out before the call, which may cost money."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from typing import Any

from reefknot.errors import Invalid


def async_checked(function: Callable[..., Any], what: str) -> None:
    """Refuse a plain function where one is awaited.

    A lambda, an object that can be called, and a function that says it returns an ``Awaitable`` may be of either
    kind: what they return is looked at then.

    Args:
        function: is to be called and awaited.
        what: what it is for, for the error.

    Raises:
        Invalid: it is no ``async def``.
    """
    called = _without_arguments(function)
    inner = inspect.unwrap(called)
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(inner):
        return
    if isinstance(inner, types.MethodType):
        inner = inner.__func__
    if not isinstance(inner, types.FunctionType) or inner.__name__ == "<lambda>" or _may_be_awaited(inner):
        return
    problem = f"{inner.__qualname__} is a plain function, which an async workflow cannot await"
    raise Invalid(what, problem, "write it as async def")


def checked(function: Callable[..., Any], what: str) -> None:
    """Refuse an ``async def`` where a plain function is called; as ``async_checked``."""
    called = _without_arguments(function)
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(type(called).__call__):
        name = getattr(called, "__qualname__", type(called).__name__)
        raise Invalid(what, f"{name} is an async def, which a plain workflow cannot await", "use AsyncWorkflows")


def async_misfit(made: object, what: str) -> Invalid | None:
    """What is wrong with that which a called function has returned: it cannot be awaited. None if it can."""
    if inspect.isawaitable(made):
        return None
    return Invalid(what, f"was to be awaited, and is a {type(made).__name__}", "write the function as async def")


def misfit(made: object, what: str) -> Invalid | None:
    """The same where nothing is awaited: it would have to be."""
    if not inspect.iscoroutine(made):
        return None
    made.close()
    return Invalid(what, "is a coroutine, which a plain workflow cannot await", "use AsyncWorkflows")


def _without_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _may_be_awaited(function: Callable[..., Any]) -> bool:
    """Whether the function says that what it returns can be awaited, or says something that cannot be looked up."""
    try:
        kind = typing.get_type_hints(function).get("return", None)
    except (NameError, TypeError):
        return True
    kind = typing.get_origin(kind) or kind
    return kind in (Any, object) or (isinstance(kind, type) and issubclass(kind, Awaitable))
