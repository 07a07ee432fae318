"""URLs of service discovery: read once, resolved at every call, their addresses taken in turn."""

from __future__ import annotations

import asyncio

from reefknot.callers.base import Discovery, DiscoveryError
from reefknot.callers.pool import Address

_CACHED_URLS = 2048


class Services:
    """Reads URLs that name a service instead of a host, and finds its addresses.

    Args:
        discovery: knows the schemes and asks the registries; None where there is none.
        scheme: the protocol of the calls, ``grpc`` or ``http``.
    """

    def __init__(self, discovery: Discovery | None, scheme: str = "grpc") -> None:
        self._discovery = discovery
        self._scheme = scheme
        self._split: dict[str, tuple[str, str]] = {}
        #: How many calls of a target were served from here; its addresses take turns by it.
        self._turns: dict[str, int] = {}

    def problem(self, url: str) -> str:
        """What is wrong with a URL that has a scheme other than http and https, in words; empty if it can be read."""
        try:
            self.split(url)
        except DiscoveryError as error:
            return str(error)
        return ""

    def split(self, url: str) -> tuple[str, str]:
        """The target and the rest from its ``/`` on; see ``Discovery.split``.

        Raises:
            DiscoveryError: there is no discovery, or it cannot read this URL.
        """
        parts = self._split.get(url)
        if parts is None:
            if self._discovery is None:
                scheme = url.partition("://")[0]
                raise DiscoveryError(f"no service discovery is set up for the scheme {scheme}:// (MicroService.Driver)")
            parts = self._discovery.split(url)
            if len(self._split) >= _CACHED_URLS:
                self._split.clear()
            self._split[url] = parts
        return parts

    async def addresses(self, target: str, timeout_seconds: float) -> tuple[Address, ...]:
        """Where a service can be called now, at least one address; each call begins with the next one.

        Args:
            target: what ``split`` made of a URL.
            timeout_seconds: how long the registry may take.

        Raises:
            DiscoveryError: nobody is known to serve it.
        """
        if self._discovery is None:
            raise DiscoveryError("no service discovery is set up (MicroService.Driver)")
        try:
            async with asyncio.timeout(timeout_seconds):
                found = await self._discovery.addresses(target, self._scheme)
        except TimeoutError:
            raise DiscoveryError("the registry did not answer in time") from None
        if not found:
            raise DiscoveryError("nobody is registered")
        turn = self._turns.get(target, 0)
        if turn == 0 and len(self._turns) >= _CACHED_URLS:
            self._turns.clear()
        self._turns[target] = turn + 1
        first = turn % len(found)
        return found[first:] + found[:first]
