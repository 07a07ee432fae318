"""etcd, version 3.4 and later, over its JSON gateway (``/v3/…``, on the client port).

A registration is a key under a lease; etcd deletes it when the lease is not kept alive. Whose keys
they are decides the layout:

==========  ======================================  ======================================================
layout      key                                     value
==========  ======================================  ======================================================
``gozero``  ``<service>/<lease id>``                ``host:port``
``kratos``  ``/microservices/<service>/<id>``       JSON with ``id``, ``name``, ``version``, ``metadata``,
                                                    ``endpoints`` (URLs such as ``grpc://host:port``)
``ego``     ``/ego/<service>/providers/``           JSON with ``name``, ``scheme``, ``address``, ``weight``,
            ``grpc://host:port``                    ``enable``, ``healthy``, …
==========  ======================================  ======================================================

Sources: the gateway of etcd 3.4.23, asked; go-zero ``core/discov``, kratos ``contrib/registry/etcd``,
ego ``server.ServiceInfo`` and ego-component ``eetcd/registry``.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

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

DEFAULT_PORT = 2379
#: How long a service that fell silent stays registered: go-zero's figure.
LEASE_SECONDS = 10

_EGO_PROVIDER = 1

#: How etcd refuses a call that the same user may make with another token. Only a token that has expired
#: has a status of its own (401): one from before a change of the users or roles (JWT), one that is none,
#: and none since authentication was switched on are errors like any other.
_LOG_IN_AGAIN = ("revision of auth store is old", "invalid auth token", "user name is empty")


class EtcdRegistry:
    """Services in etcd.

    Args:
        hosts: the cluster's members, ``host`` or ``host:port`` each.
        access: user, password and TLS.
        make_id: makes the id of an instance.
    """

    heartbeat_seconds = LEASE_SECONDS / 4

    def __init__(self, hosts: tuple[str, ...], access: Access, make_id: Callable[[], str]) -> None:
        self._client = RegistryClient("etcd", hosts, access)
        self._access = access
        self._make_id = make_id
        #: None before the first login; empty if etcd lets everybody in.
        self._token: str | None = None
        self._lease = ""
        #: The key of our registration, where other workers on our address have the same one.
        self._shared_key = ""

    async def register(self, target: ServiceTarget, endpoint: Endpoint) -> None:
        granted = await self._call("lease/grant", {"TTL": LEASE_SECONDS})
        self._lease = str(granted.get("ID", ""))
        key, value = self._entry(target, endpoint)
        await self._call("kv/put", {"key": _encoded(key), "value": _encoded(value), "lease": self._lease})
        self._shared_key = key if target.layout == "ego" else ""

    async def heartbeat(self) -> None:
        # A stream of answers in the gateway: one for the one request in it.
        answer = await self._call("lease/keepalive", {"ID": self._lease})
        # A lease that etcd does not know any more has no time left, which the gateway leaves out.
        if int(answer.get("result", {}).get("TTL", 0)) <= 0:
            raise RegistrationLost("etcd does not know the lease any more")
        if self._shared_key:
            # It goes with the lease of the worker that wrote it last. While it is there nobody writes it.
            found = await self._call("kv/range", {"key": _encoded(self._shared_key), "keys_only": True})
            if not found.get("kvs"):
                raise RegistrationLost("another worker on the same address took the registration with it")

    async def deregister(self) -> None:
        lease, self._lease = self._lease, ""
        if not lease:
            return
        try:
            await self._call("lease/revoke", {"ID": lease})
        except RegistrationLost:
            return

    async def resolve(self, target: ServiceTarget, scheme: str) -> tuple[Address, ...]:
        prefix = _prefix(target, scheme)
        answer = await self._call("kv/range", {"key": _encoded(prefix), "range_end": _encoded(_after(prefix))})
        endpoints: list[str] = []
        for entry in answer.get("kvs", ()):
            value = b64decode(entry.get("value", ""))
            endpoints += _endpoints(target, value)
        return read_addresses(endpoints, scheme)

    async def close(self) -> None:
        await self._client.close()

    def _entry(self, target: ServiceTarget, endpoint: Endpoint) -> tuple[str, str]:
        """Key and value of our own registration."""
        if target.layout == "kratos":
            instance = {
                "id": self._make_id(),
                "name": target.service,
                "version": "",
                "metadata": {},
                "endpoints": [endpoint.url],
            }
            return f"/microservices/{target.service}/{instance['id']}", msgspec.json.encode(instance).decode()
        if target.layout == "ego":
            info = {
                "name": target.service,
                "scheme": endpoint.scheme,
                "address": endpoint.authority,
                "weight": 100,
                "enable": True,
                "healthy": True,
                "metadata": {},
                "region": "",
                "zone": "",
                "kind": _EGO_PROVIDER,
                "deployment": "",
                "group": "",
                "services": {},
            }
            return f"/ego/{target.service}/providers/{endpoint.url}", msgspec.json.encode(info).decode()
        return f"{target.service}/{self._lease}", endpoint.authority

    async def _call(self, method: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Call a method of the gateway, logged in if there is a user.

        Raises:
            RegistrationLost: the lease in the call is not known.
            RegistryUnavailable: etcd does not answer or refuses.
        """
        if self._access.user and self._token is None:
            await self._log_in()
        answer = await self._send(method, fields)
        if self._access.user and _wants_login(answer):
            await self._log_in()
            answer = await self._send(method, fields)
        if answer.status == 404 and "lease not found" in answer.text():
            raise RegistrationLost("etcd does not know the lease any more")
        if answer.status != 200:
            raise RegistryUnavailable(f"etcd refuses {method} with status {answer.status}: {answer.text()}")
        return decode(answer, dict[str, Any], "etcd")

    async def _send(self, method: str, fields: dict[str, Any]) -> RegistryAnswer:
        headers = {"Authorization": self._token} if self._token else {}
        return await self._client.send("POST", f"/v3/{method}", body=msgspec.json.encode(fields), headers=headers)

    async def _log_in(self) -> None:
        self._token = None
        fields = {"name": self._access.user, "password": self._access.password.reveal()}
        answer = await self._send("auth/authenticate", fields)
        if answer.status != 200 and "authentication is not enabled" in answer.text():
            self._token = ""
            return
        if answer.status != 200:
            raise RegistryUnavailable(f"etcd refuses the user {self._access.user}: {answer.text()}")
        self._token = str(decode(answer, dict[str, Any], "etcd").get("token", ""))


registry = EtcdRegistry


def _wants_login(answer: RegistryAnswer) -> bool:
    """Whether a call was refused that may pass after a login."""
    if answer.status == 200:
        return False
    return answer.status == 401 or any(text in answer.text() for text in _LOG_IN_AGAIN)


def _prefix(target: ServiceTarget, scheme: str) -> str:
    """What the keys of a service begin with."""
    if target.layout == "kratos":
        return f"/microservices/{target.service}/"
    if target.layout == "ego":
        return f"/ego/{target.service}/providers/{scheme}://"
    return f"{target.service}/"


def _after(prefix: str) -> str:
    """The first key behind all keys with this prefix. Prefixes end with a slash, so the last byte can grow."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _endpoints(target: ServiceTarget, value: bytes) -> list[str]:
    """The endpoints in the value of a key; none if it is not what the layout asks for."""
    if target.layout == "gozero":
        return [value.decode(errors="replace")]
    try:
        fields = msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    if target.layout == "kratos":
        endpoints = fields.get("endpoints")
        named = fields.get("name") == target.service and isinstance(endpoints, list)
        return [text for text in endpoints if isinstance(text, str)] if named and endpoints else []
    if fields.get("enable") is False or fields.get("healthy") is False:
        return []
    return [f"{fields.get('scheme')}://{fields.get('address')}"]


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()
