"""What nobody awaited: a coroutine function as the work of a plain call, or an ``await`` that is missing.

A coroutine that is not awaited did nothing, and is taken for a result, or for True, before anybody notices.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar

from reefknot.errors import Invalid

Result = TypeVar("Result")


def done(result: Result) -> Result:
    """What a work returned.

    Args:
        result: of a work that was called, and is done if that is a plain function.

    Raises:
        Invalid: it has to be awaited first, so nothing is done yet.
    """
    if inspect.isawaitable(result):
        if isinstance(result, Coroutine):
            result.close()  # no warning about what the error tells
        raise Invalid(
            "work",
            f"returned a {type(result).__name__}, which nobody here awaits: nothing of it is done",
            "give a plain function; a coroutine function is for the class of the same name that begins with Async",
        )
    return result


async def async_done(work: Awaitable[Result]) -> Result:
    """What a work returns in the end.

    Args:
        work: under way.

    Raises:
        Invalid: it returned a coroutine, whose ``await`` is missing.
    """
    result = await work
    if isinstance(result, Coroutine):
        result.close()
        what = "returned a coroutine that it did not await: nothing of it is done"
        raise Invalid("work", what, "await it, or return what it returns")
    return result


class Question(Coroutine[Any, Any, bool]):
    """What ``AsyncBarrier.passes`` returns: a coroutine that is neither true nor false before it is awaited.

    Args:
        asking: the coroutine of the answer.
    """

    __slots__ = ("_asking",)

    def __init__(self, asking: Coroutine[Any, Any, bool]) -> None:
        self._asking = asking

    def __bool__(self) -> NoReturn:
        self._asking.close()
        raise TypeError("the answer of passes() has to be awaited: if await barrier.passes(connection)")

    def __await__(self) -> Generator[Any, Any, bool]:
        return self._asking.__await__()

    def send(self, value: Any) -> Any:
        """As for every coroutine."""
        return self._asking.send(value)

    def throw(self, *error: Any) -> Any:
        """As for every coroutine."""
        return self._asking.throw(*error)

    def close(self) -> None:
        """As for every coroutine."""
        self._asking.close()
