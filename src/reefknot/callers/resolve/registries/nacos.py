"""Nacos over the open API of its versions 1 and 2.

https://nacos.io/en/docs/v1/open-api/ describes it.

A registration is an ephemeral instance: it is unhealthy without a beat for 15 s and removed after
30 s, which are the server's defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec

from reefknot.callers.pool import Address
from reefknot.callers.resolve.base import (
    Access,
    Endpoint,
    RegistrationLost,
    RegistryUnavailable,
    ServiceTarget,
)
from reefknot.callers.resolve.http import RegistryAnswer, RegistryClient, decode

_INSTANCE = "/nacos/v1/ns/instance"
_GROUP = "DEFAULT_GROUP"
_CLUSTER = "DEFAULT"
#: What the beat of an instance that the server does not know is answered with.
_NOT_FOUND = 20404


class NacosRegistry:
    """Services in Nacos.

    Args:
        hosts: servers, ``host:port`` each.
        access: user, password and namespace; TLS.
        make_id: not needed: address and port tell instances apart.
    """

    heartbeat_seconds = 5.0

    def __init__(self, hosts: tuple[str, ...], access: Access, make_id: Callable[[], str]) -> None:
        self._client = RegistryClient("nacos", hosts, access)
        self._access = access
        self._token = ""
        self._instance: dict[str, str] = {}

    async def register(self, target: ServiceTarget, endpoint: Endpoint) -> None:
        instance = {
            **self._service(target),
            "clusterName": target.option("clusters", _CLUSTER),
            "ip": endpoint.host,
            "port": str(endpoint.port),
            "weight": target.option("weight", "1"),
            "ephemeral": "true",
        }
        self._instance = instance  # first: whoever is interrupted now takes back what may have arrived
        await self._call("POST", _INSTANCE, {**instance, "enabled": "true", "healthy": "true"})

    async def heartbeat(self) -> None:
        instance = self._instance
        beat = {
            "ip": instance["ip"],
            "port": int(instance["port"]),
            "serviceName": f"{instance['groupName']}@@{instance['serviceName']}",
            "cluster": instance["clusterName"],
            "weight": float(instance["weight"]),
            "metadata": {},
            "scheduled": True,
        }
        names = ("serviceName", "groupName", "namespaceId", "ephemeral")
        query = {name: instance[name] for name in names if name in instance}
        answer = await self._call("PUT", f"{_INSTANCE}/beat", {**query, "beat": msgspec.json.encode(beat).decode()})
        if decode(answer, dict[str, Any], "nacos").get("code") == _NOT_FOUND:
            raise RegistrationLost("nacos does not know the instance any more")

    async def deregister(self) -> None:
        instance, self._instance = self._instance, {}
        if instance:
            await self._call("DELETE", _INSTANCE, {name: text for name, text in instance.items() if name != "weight"})

    async def resolve(self, target: ServiceTarget, scheme: str) -> tuple[Address, ...]:
        query = {**self._service(target), "healthyOnly": "true"}
        if clusters := target.option("clusters"):
            query["clusters"] = clusters
        answer = await self._call("GET", f"{_INSTANCE}/list", query)
        found: set[Address] = set()
        for host in decode(answer, _List, "nacos").hosts:
            if host.healthy and host.enabled and host.weight > 0:
                found.add((host.ip, host.port))
        return tuple(sorted(found))

    async def close(self) -> None:
        await self._client.close()

    def _service(self, target: ServiceTarget) -> dict[str, str]:
        group, _, name = target.service.rpartition("@@")
        fields = {"serviceName": name, "groupName": group or target.option("group", _GROUP)}
        if namespace := target.option("namespace", self._access.namespace):
            fields["namespaceId"] = namespace
        return fields

    async def _call(self, method: str, path: str, query: dict[str, str]) -> RegistryAnswer:
        """Call the open API, logged in if there is a user.

        Raises:
            RegistryUnavailable: nacos does not answer or refuses.
        """
        if self._access.user and not self._token:
            await self._log_in()
        answer = await self._send(method, path, query)
        if answer.status in (401, 403) and self._access.user:  # the token has expired
            await self._log_in()
            answer = await self._send(method, path, query)
        if answer.status != 200:
            raise RegistryUnavailable(f"nacos refuses {method} {path} with status {answer.status}: {answer.text()}")
        return answer

    async def _send(self, method: str, path: str, query: dict[str, str]) -> RegistryAnswer:
        token = {"accessToken": self._token} if self._token else {}
        return await self._client.send(method, path, query={**query, **token})

    async def _log_in(self) -> None:
        self._token = ""
        form = urlencode({"username": self._access.user, "password": self._access.password.reveal()}).encode()
        answer = await self._client.send(
            "POST",
            "/nacos/v1/auth/login",
            body=form,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        if answer.status != 200:
            raise RegistryUnavailable(f"nacos refuses the user {self._access.user} with status {answer.status}")
        self._token = decode(answer, _Login, "nacos").accessToken


class _Login(msgspec.Struct):
    accessToken: str  # noqa: N815 - the name on the wire


class _Host(msgspec.Struct):
    """One instance in a list; what is missing counts as good."""

    ip: str
    port: int
    healthy: bool = True
    enabled: bool = True
    weight: float = 1.0


class _List(msgspec.Struct):
    hosts: list[_Host] = []


registry = NacosRegistry
