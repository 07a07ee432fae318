"""What a registry of services offers here, and the words that drivers and registries share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from reefknot.callers.base import DiscoveryError
from reefknot.callers.pool import Address
from reefknot.config import Secret

#: The protocols that the endpoints of a service can speak.
GRPC = "grpc"
HTTP = "http"

_ENDPOINT = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?(?P<authority>[^/?#@]+)/?")


class RegistryUnavailable(DiscoveryError):
    """The registry does not answer or refuses; what is registered there is not known."""


class RegistrationLost(DiscoveryError):
    """The registry has forgotten a registration, for example after its restart: register again."""


class Endpoint(NamedTuple):
    """Where a service can be called: protocol (``grpc`` or ``http``), host without brackets, port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host:port`` as it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """``scheme://host:port``."""
        return f"{self.scheme}://{self.authority}"


class ServiceTarget(NamedTuple):
    """A service in a registry.

    Attributes:
        kind: the kind of registry; the name of a module in ``registries``.
        hosts: where the registry is, ``host`` or ``host:port`` each; the first that answers is used.
        service: the name under which the service is registered.
        layout: whose convention the entries follow: ``gozero``, ``kratos`` or ``ego``.
        options: what else narrows the choice, for example a consul ``tag``; sorted by name.
    """

    kind: str
    hosts: tuple[str, ...]
    service: str
    layout: str = "gozero"
    options: tuple[tuple[str, str], ...] = ()

    def option(self, name: str, default: str = "") -> str:
        """The value of an option; ``default`` if it is not set."""
        return dict(self.options).get(name) or default


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a registry lets us in.

    Args:
        user: the name to log in with; empty for no login.
        password: its password.
        token: an access token (consul).
        namespace: the namespace of a nacos server; empty is its public one.
        tls: whether the registry is asked over TLS.
        ca_file: the certificate authorities to trust instead of the system's.
        certificate_file: our own certificate, if the registry asks for one.
        key_file: the private key of that certificate.
    """

    user: str = ""
    password: Secret = field(default_factory=Secret)
    token: Secret = field(default_factory=Secret)
    namespace: str = ""
    tls: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""


class Registry(Protocol):
    """One registry of services, and at most one registration of our own in it."""

    #: How often ``heartbeat`` is due, in seconds.
    heartbeat_seconds: float

    async def register(self, target: ServiceTarget, endpoint: Endpoint) -> None:
        """Say that the service can be called at the endpoint, until heartbeats stay away.

        Registering the same again is no error.

        Raises:
            RegistryUnavailable: whether it is registered now is not known.
        """
        ...

    async def heartbeat(self) -> None:
        """Keep the registration.

        Raises:
            RegistrationLost: it is gone; register again.
            RegistryUnavailable: whether it is kept is not known.
        """
        ...

    async def deregister(self) -> None:
        """Take the registration back; nothing happens if there is none.

        Raises:
            RegistryUnavailable: whether it is gone is not known; it expires without heartbeats.
        """
        ...

    async def resolve(self, target: ServiceTarget, scheme: str) -> tuple[Address, ...]:
        """Where the service can be called now, sorted, each once; empty if nobody is registered.

        Args:
            target: the service.
            scheme: ``grpc`` or ``http``; endpoints that are registered for another protocol are left out.

        Raises:
            RegistryUnavailable: the registry does not answer.
        """
        ...

    async def close(self) -> None:
        """Close the connections to the registry."""
        ...


def read_endpoint(text: str, scheme: str) -> Endpoint:
    """Read ``host:port`` or ``scheme://host:port``.

    Args:
        text: the endpoint as an operator or a service wrote it.
        scheme: the protocol if the text does not say one.

    Raises:
        ValueError: the text says what is wrong.
    """
    match = _ENDPOINT.fullmatch(text.strip())
    try:
        parts = urlsplit(f"//{match['authority']}") if match else None
        host, port = (parts.hostname, parts.port) if parts else (None, None)
    except ValueError:
        host, port = None, None
    if match is None or not host or not port:
        raise ValueError(f"{text!r} is not of the form host:port")
    return Endpoint(match["scheme"] or scheme, host, port)


def read_addresses(endpoints: list[str], scheme: str) -> tuple[Address, ...]:
    """The addresses among ``endpoints`` that speak ``scheme``; what cannot be read or asks for TLS is left out."""
    found: set[Address] = set()
    for text in endpoints:
        plain, _, query = text.partition("?")
        try:
            endpoint = read_endpoint(plain, scheme)
        except ValueError:
            continue
        if endpoint.scheme == scheme and "isSecure=true" not in query:
            found.add((endpoint.host, endpoint.port))
    return tuple(sorted(found))


def sorted_options(options: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Options as they stand in a ``ServiceTarget``."""
    return tuple(sorted((name, value) for name, value in options.items() if value))
