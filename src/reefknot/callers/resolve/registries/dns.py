"""Names that the system resolves: DNS, /etc/hosts, and so the services of Kubernetes.

A headless service of Kubernetes has an address for every ready pod; an ordinary one has a single
address behind which Kubernetes chooses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from reefknot.callers.pool import Address
from reefknot.callers.resolve.base import (
    Access,
    Endpoint,
    RegistryUnavailable,
    ServiceTarget,
    read_endpoint,
)

#: How long the system may take to resolve a name.
_ANSWER_SECONDS = 5.0


class DnsRegistry:
    """Resolves names; whoever runs the name server registers services there.

    Args:
        hosts: not used: the system knows its name servers.
        access: not used.
        make_id: not used.
    """

    heartbeat_seconds = 60.0

    def __init__(self, hosts: tuple[str, ...], access: Access, make_id: Callable[[], str]) -> None:
        """Nothing is needed."""

    async def register(self, target: ServiceTarget, endpoint: Endpoint) -> None:
        raise RegistryUnavailable(f"nobody can register in DNS: give {target.service} its addresses there")

    async def heartbeat(self) -> None:
        """Nothing to keep."""

    async def deregister(self) -> None:
        """Nothing to take back."""

    async def resolve(self, target: ServiceTarget, scheme: str) -> tuple[Address, ...]:
        service = read_endpoint(target.service, scheme)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await loop.getaddrinfo(service.host, service.port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise RegistryUnavailable(f"no answer to the name {service.host} in {_ANSWER_SECONDS:g} s") from None
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                return ()
            raise RegistryUnavailable(f"the name {service.host} cannot be resolved: {error.strerror}") from None
        except (OSError, UnicodeError) as error:
            raise RegistryUnavailable(f"the name {service.host} cannot be resolved: {error}") from None
        return tuple(sorted({(str(entry[4][0]), service.port) for entry in found}))

    async def close(self) -> None:
        """Nothing is open."""


registry = DnsRegistry
