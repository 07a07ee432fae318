"""Consul over its HTTP API.

https://developer.hashicorp.com/consul/api-docs says what stands here.

A registration has a TTL check: the agent takes it for failing when no heartbeat came for
``CHECK_SECONDS``, and removes it some time later. Only instances whose checks pass are resolved.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec

from reefknot.callers.pool import Address
from reefknot.callers.resolve.base import (
    Access,
    Endpoint,
    RegistrationLost,
    RegistryUnavailable,
    ServiceTarget,
    read_addresses,
)
from reefknot.callers.resolve.http import RegistryAnswer, RegistryClient, decode

#: A service that fell silent for so long is failing. These two are the figures of go-zero's driver.
CHECK_SECONDS = 30
#: A service that is failing for so long is removed by the agent.
REMOVE_SECONDS = 90
#: How an agent answers the heartbeat of a check that it does not know; 500 in older versions.
_UNKNOWN_CHECK = frozenset({404, 500})


class ConsulRegistry:
    """Services in Consul.

    Args:
        hosts: agents, ``host:port`` each.
        access: an ACL token, or user and password of a proxy in front of the agents; TLS.
        make_id: not needed: address and port tell instances apart.
    """

    heartbeat_seconds = CHECK_SECONDS / 3

    def __init__(self, hosts: tuple[str, ...], access: Access, make_id: Callable[[], str]) -> None:
        self._client = RegistryClient("consul", hosts, access)
        self._headers: dict[str, str] = {}
        if access.token:
            self._headers["X-Consul-Token"] = access.token.reveal()
        if access.user:
            login = f"{access.user}:{access.password.reveal()}"
            self._headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        self._id = ""

    async def register(self, target: ServiceTarget, endpoint: Endpoint) -> None:
        service_id = f"{target.service}-{endpoint.host}-{endpoint.port}"
        body = {
            "ID": service_id,
            "Name": target.service,
            # What the drivers of the two frameworks write, so that their filters find us.
            "Tags": ["version="] if target.layout == "kratos" else ["tag", "rpc"],
            "Address": endpoint.host,
            "Port": endpoint.port,
            "Meta": {} if target.layout == "kratos" else {"Protocol": endpoint.scheme},
            "TaggedAddresses": {endpoint.scheme: {"Address": endpoint.url, "Port": endpoint.port}},
            "Checks": [
                {
                    "CheckID": f"service:{service_id}",
                    "TTL": f"{CHECK_SECONDS}s",
                    "Status": "passing",
                    "DeregisterCriticalServiceAfter": f"{REMOVE_SECONDS}s",
                }
            ],
        }
        self._id = service_id  # first: whoever is interrupted now takes back what may have arrived
        await self._send("PUT", "/v1/agent/service/register", body=msgspec.json.encode(body))

    async def heartbeat(self) -> None:
        body = msgspec.json.encode({"Status": "passing", "Output": ""})
        path = f"/v1/agent/check/update/{quote(f'service:{self._id}', safe=':')}"
        answer = await self._client.send("PUT", path, body=body, headers=self._headers, final=_UNKNOWN_CHECK)
        if answer.status in _UNKNOWN_CHECK:
            raise RegistrationLost(f"consul does not know the check of {self._id} any more")
        _require_success(answer)

    async def deregister(self) -> None:
        service_id, self._id = self._id, ""
        if service_id:
            answer = await self._client.send(
                "PUT", f"/v1/agent/service/deregister/{quote(service_id, safe='')}", headers=self._headers
            )
            if answer.status != 404:
                _require_success(answer)

    async def resolve(self, target: ServiceTarget, scheme: str) -> tuple[Address, ...]:
        query = {"passing": "true", **{name: target.option(name) for name in ("tag", "dc", "near")}}
        answer = await self._send(
            "GET",
            f"/v1/health/service/{quote(target.service, safe='')}",
            query={name: value for name, value in query.items() if value},
        )
        found: set[Address] = set()
        for entry in decode(answer, list[dict[str, Any]], "consul"):
            found.update(_addresses(entry, scheme))
        return tuple(sorted(found))

    async def close(self) -> None:
        await self._client.close()

    async def _send(
        self, method: str, path: str, *, body: bytes = b"", query: dict[str, str] | None = None
    ) -> RegistryAnswer:
        answer = await self._client.send(method, path, body=body, query=query, headers=self._headers)
        _require_success(answer)
        return answer


registry = ConsulRegistry


def _require_success(answer: RegistryAnswer) -> None:
    if answer.status != 200:
        raise RegistryUnavailable(f"consul refuses with status {answer.status}: {answer.text()}")


def _addresses(entry: dict[str, Any], scheme: str) -> tuple[Address, ...]:
    """The addresses of one instance.

    Kratos writes one tagged address for each protocol, whose text is a URL; an instance of that kind
    is called at the one for this protocol or not at all. Every other instance has one address.
    """
    service: dict[str, Any] = entry.get("Service") or {}
    tagged = [str(one.get("Address", "")) for one in (service.get("TaggedAddresses") or {}).values()]
    if urls := [text for text in tagged if "://" in text]:
        return read_addresses(urls, scheme)
    host = service.get("Address") or (entry.get("Node") or {}).get("Address")
    port = service.get("Port")
    return ((host, port),) if isinstance(host, str) and isinstance(port, int) and host and port else ()
