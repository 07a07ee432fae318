"""Service discovery: from the URL of a service to the addresses where it can be called now.

``drivers`` reads the URLs, as DTM's drivers do; ``registries`` has a module for each kind of
registry; ``cache`` stands between them and the branch calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from reefknot.callers.base import DiscoveryError
from reefknot.callers.pool import Address
from reefknot.callers.resolve.base import Access, Registry, ServiceTarget
from reefknot.callers.resolve.cache import AddressCache, Spawn
from reefknot.callers.resolve.drivers import Driver, unread
from reefknot.callers.resolve.registries import open_registry
from reefknot.callers.resolve.settings import Configured, read_settings
from reefknot.clock import Clock

__all__ = ["Configured", "ServiceDiscovery", "read_settings"]

#: Registries to which connections are kept; branch URLs may name any number of them.
_REGISTRIES_MOST = 64


class ServiceDiscovery:
    """Resolves branch URLs that name a service instead of a host.

    Args:
        configured: the drivers in use and the registries they know; see ``read_settings``. The first
            driver that reads the scheme of a URL has it.
        clock: how old an answer of a registry is.
        spawn: starts the questions to registries, which outlive the call that needed them.
        make_id: passed on to registries.
    """

    def __init__(
        self, configured: tuple[Configured, ...], *, clock: Clock, spawn: Spawn, make_id: Callable[[], str]
    ) -> None:
        self._configured = configured
        self._cache = AddressCache(clock, spawn)
        self._make_id = make_id
        self._registries: OrderedDict[tuple[str, tuple[str, ...]], Registry] = OrderedDict()

    def split(self, url: str) -> tuple[str, str]:
        """Split a branch URL into target and method; see ``callers.base.Discovery``."""
        driver = self._driver(url)
        target, method = driver.split(url)
        self._locate(driver, target)
        return target, method

    async def addresses(self, target: str, scheme: str) -> tuple[Address, ...]:
        """Where the service can be called now; see ``callers.base.Discovery``.

        Args:
            target: the first part of what ``split`` returned.
            scheme: the protocol that is spoken there, ``grpc`` or ``http``.
        """
        return await self._cache.get((target, scheme), partial(self._resolve, target, scheme))

    async def close(self) -> None:
        """Close the connections to registries."""
        while self._registries:
            _, registry = self._registries.popitem()
            await registry.close()

    def _driver(self, url: str) -> Driver:
        scheme = url.partition("://")[0]
        for one in self._configured:
            if one.driver.kind(scheme):
                return one.driver
        chosen = " and ".join(one.driver.name for one in self._configured)
        raise DiscoveryError(unread(scheme, f"the driver {chosen}"))

    def _locate(self, driver: Driver, target: str) -> ServiceTarget:
        """The service that a target means, with the servers to ask."""
        located = driver.locate(target)
        if located.hosts or located.kind == "dns":
            return located
        for one in self._configured:
            if one.driver is driver and one.target is not None and one.target.kind == located.kind:
                return located._replace(hosts=one.target.hosts)
        raise DiscoveryError(f"no servers of the {located.kind} registry: name them in MicroService.Target")

    async def _resolve(self, target: str, scheme: str) -> tuple[Address, ...]:
        located = self._locate(self._driver(target), target)
        return await (await self._registry(located)).resolve(located, scheme)

    async def _registry(self, target: ServiceTarget) -> Registry:
        key = (target.kind, target.hosts)
        registry = self._registries.get(key)
        if registry is None:
            registry = self._registries[key] = open_registry(*key, self._access(target), self._make_id)
            if len(self._registries) > _REGISTRIES_MOST:
                _, oldest = self._registries.popitem(last=False)
                await oldest.close()
        return registry

    def _access(self, target: ServiceTarget) -> Access:
        """What was configured for these servers; nobody else gets a password of ours."""
        for one in self._configured:
            if one.target is not None and (one.target.kind, one.target.hosts) == (target.kind, target.hosts):
                return one.access
        return Access()
