"""Supervised background work: no task is lost, and none takes the process with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from reefknot.clock import Clock
from reefknot.errors import StoreUnavailable
from reefknot.observe import Observer

_log = logging.getLogger(__name__)

#: Starts a coroutine in the background under a name; handed to whatever needs to.
Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class Tasks:
    """Starts tasks, keeps them alive, and reports the ones that fail."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` in the background; an exception is logged and counted, never raised."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            name = task.get_name()
            self._observer.task_failed(name.partition(":")[0])
            _log.error("task failed", exc_info=error, extra={"task": name})

    async def cancel_all(self) -> None:
        """Cancel what still runs and wait for it."""
        running = [task for task in self._running if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def repeat(clock: Clock, seconds: float, work: Callable[[], Coroutine[Any, Any, object]], what: str) -> None:
    """Do ``work`` every ``seconds`` until cancelled; a failed round is logged and the next one comes."""
    while True:
        await clock.sleep(seconds)
        try:
            await work()
        except StoreUnavailable as error:
            _log.warning("store unavailable", extra={"work": what, "error": str(error)})
        except Exception:  # noqa: BLE001 - the next round comes whatever this one does
            _log.exception("periodic work failed", extra={"work": what})
