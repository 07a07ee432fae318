"""What a cancellation must not cut in two."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def async_finished(
    work: Callable[Given, Coroutine[Any, Any, Result]], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """Do the work to its end, also where the task that waits for it is cancelled meanwhile.

    A task group cancels the other steps when one is refused. A record that is cut off there may be stored or
    not, and then nothing could be decided, in no later run either.

    Args:
        work: ends by itself in good time.
        *args: for the work.
        **kwargs: for the work.

    Returns:
        Its result.

    Raises:
        CancelledError: the task was cancelled, and the work has succeeded.
        Exception: what the work raised, whether or not the task was cancelled.
    """
    import asyncio  # noqa: PLC0415 - a synchronous program does not need it

    task = asyncio.create_task(work(*args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                # Told more than once.
                continue
        task.result()
        raise


def finished(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Do the work: a thread is not cancelled."""
    return work(*args, **kwargs)
