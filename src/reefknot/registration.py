"""Registers this server in a registry of services, keeps it there, and takes it back at the stop.

A registry that is away never stops the server: it is asked again until it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from reefknot.callers.base import DiscoveryError
from reefknot.callers.resolve import Configured
from reefknot.callers.resolve.base import Endpoint, RegistrationLost, Registry, ServiceTarget
from reefknot.callers.resolve.registries import open_registry
from reefknot.clock import Clock

_log = logging.getLogger(__name__)

#: The pause after an attempt that failed.
RETRY_SECONDS = 1.0
#: How long a stop waits for the registry; after that the registration expires by itself.
WITHDRAW_SECONDS = 3.0


class Registration:
    """One service of this server in one registry.

    Args:
        registry: holds nothing of ours yet, and serves nobody else.
        target: the name to register as.
        endpoint: our own address as others reach it.
        clock: the pauses between heartbeats.
    """

    def __init__(self, registry: Registry, target: ServiceTarget, endpoint: Endpoint, clock: Clock) -> None:
        self._registry = registry
        self._target = target
        self._endpoint = endpoint
        self._clock = clock
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Register in the background and go on until ``withdraw``; call it when the listener is up."""
        self._running = asyncio.get_running_loop().create_task(self._run(), name="registration")

    async def withdraw(self) -> None:
        """Stop the heartbeats and take the registration back, so that clients turn to other servers."""
        if self._running is None:
            return
        running, self._running = self._running, None
        running.cancel()
        await asyncio.wait((running,))
        try:
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await self._registry.deregister()
        except (DiscoveryError, TimeoutError) as error:
            _log.warning("not deregistered; the registration expires by itself", extra=self._extra(error))
        else:
            _log.info("deregistered", extra=self._extra())
        with contextlib.suppress(DiscoveryError):
            await self._registry.close()

    async def _run(self) -> None:
        registered = failing = False
        while True:
            try:
                if registered:
                    await self._registry.heartbeat()
                else:
                    await self._registry.register(self._target, self._endpoint)
                    _log.info("registered", extra=self._extra())
                registered, failing = True, False
            except DiscoveryError as error:
                if registered and isinstance(error, RegistrationLost):
                    _log.warning("registration lost, registering again", extra=self._extra(error))
                    registered = False
                    continue
                if not failing:
                    _log.warning("registry does not answer, trying on", extra=self._extra(error))
                failing = True
            except Exception:  # noqa: BLE001 - a defect here must not end what keeps us in the registry
                _log.exception("registration failed, trying on", extra=self._extra())
                failing = True
            await self._clock.sleep(RETRY_SECONDS if failing else self._registry.heartbeat_seconds)

    def _extra(self, error: BaseException | None = None) -> dict[str, str]:
        fields = {"service": self._target.service, "registry": self._target.kind, "endpoint": self._endpoint.url}
        return {**fields, "error": str(error) or type(error).__name__} if error is not None else fields


class Registrations:
    """Everything this server registers as, from its configuration.

    Args:
        configured: what ``read_settings`` found.
        clock: as for ``Registration``.
        make_id: makes an id for each registration.
    """

    def __init__(self, configured: tuple[Configured, ...], clock: Clock, make_id: Callable[[], str]) -> None:
        self._all = [
            Registration(
                open_registry(one.target.kind, one.target.hosts, one.access, make_id), one.target, one.endpoint, clock
            )
            for one in configured
            if one.target is not None and one.endpoint is not None
        ]

    def start(self) -> None:
        """Begin all of them in the background."""
        for one in self._all:
            one.start()

    async def withdraw(self) -> None:
        """End all of them."""
        await asyncio.gather(*(one.withdraw() for one in self._all))
