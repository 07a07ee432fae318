"""The Nacos adapter against a written exchange: requests and answers as its open API's documentation has them."""

import json

import pytest

from discovery.replay import Expected, Replay
from reefknot.callers.resolve.base import Access, Endpoint, RegistrationLost, RegistryUnavailable, ServiceTarget
from reefknot.callers.resolve.registries.nacos import NacosRegistry
from reefknot.config import Secret

pytestmark = pytest.mark.anyio

US = Endpoint("http", "10.0.0.9", 36789)
INSTANCE = {
    "serviceName": "bank",
    "groupName": "DEFAULT_GROUP",
    "clusterName": "DEFAULT",
    "ip": "10.0.0.9",
    "port": "36789",
    "ephemeral": "true",
}
BEAT = {
    "ip": "10.0.0.9",
    "port": 36789,
    "serviceName": "DEFAULT_GROUP@@bank",
    "cluster": "DEFAULT",
    "weight": 1.0,
    "metadata": {},
    "scheduled": True,
}
REGISTER = {**INSTANCE, "weight": "1", "enabled": "true", "healthy": "true"}
LIST = {"serviceName": "bank", "groupName": "DEFAULT_GROUP", "healthyOnly": "true"}


def target(host, service="bank", **options):
    return ServiceTarget("nacos", (host,), service, "gozero", tuple(sorted(options.items())))


def registry(host, **access):
    return NacosRegistry((host,), Access(**access), lambda: "1")


def beating(answer, **more):
    query = {name: INSTANCE[name] for name in ("serviceName", "groupName", "ephemeral")}
    beat = json.dumps(BEAT, separators=(",", ":"))
    return Expected("PUT", "/nacos/v1/ns/instance/beat", {**query, "beat": beat, **more}, answer=answer)


def host(ip, port, **more):
    fields = {"instanceId": f"{ip}#{port}", "ip": ip, "port": port, "weight": 1.0, "healthy": True, "enabled": True}
    return {**fields, "valid": True, "marked": False, "metadata": {}, "clusterName": "DEFAULT", **more}


def listing(*hosts):
    return {"dom": "bank", "name": "DEFAULT_GROUP@@bank", "cacheMillis": 3000, "hosts": hosts, "clusters": ""}


async def test_a_registration_from_its_beginning_to_its_end():
    with Replay(
        Expected("POST", "/nacos/v1/ns/instance", REGISTER, answer=b"ok"),
        beating({"clientBeatInterval": 5000, "code": 10200, "lightBeatEnabled": True}),
        Expected("DELETE", "/nacos/v1/ns/instance", INSTANCE, answer=b"ok"),
    ) as nacos:
        us = registry(nacos.host)
        await us.register(target(nacos.host), US)
        await us.heartbeat()
        await us.deregister()
        await us.deregister()  # there is nothing left
        await us.close()


async def test_a_server_that_forgot_us():
    with Replay(
        Expected("POST", "/nacos/v1/ns/instance", REGISTER, answer=b"ok"),
        beating({"clientBeatInterval": 5000, "code": 20404, "lightBeatEnabled": False}),
    ) as nacos:
        us = registry(nacos.host)
        await us.register(target(nacos.host), US)
        with pytest.raises(RegistrationLost):
            await us.heartbeat()
        await us.close()


async def test_healthy_instances_are_resolved():
    query = {**LIST, "groupName": "G", "namespaceId": "ns", "clusters": "C1"}
    answer = listing(
        host("10.0.0.3", 9000),
        host("10.0.0.2", 9000),
        host("10.0.0.4", 9000, healthy=False),
        host("10.0.0.5", 9000, enabled=False),
        host("10.0.0.6", 9000, weight=0.0),
    )
    with Replay(Expected("GET", "/nacos/v1/ns/instance/list", query, answer=answer)) as nacos:
        us = registry(nacos.host, namespace="ns")
        found = await us.resolve(target(nacos.host, group="G", clusters="C1"), "http")
        assert found == (("10.0.0.2", 9000), ("10.0.0.3", 9000))
        await us.close()


async def test_a_group_in_the_name_and_nobody_there():
    query = {**LIST, "groupName": "G"}
    with Replay(Expected("GET", "/nacos/v1/ns/instance/list", query, answer=listing())) as nacos:
        us = registry(nacos.host)
        assert await us.resolve(target(nacos.host, "G@@bank"), "http") == ()
        await us.close()


async def test_logging_in_and_again_when_the_token_has_expired():
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    login = ("POST", "/nacos/v1/auth/login", None, b"username=u&password=p%26w", form)
    token = {"accessToken": "one", "tokenTtl": 18000, "globalAdmin": True}
    path = "/nacos/v1/ns/instance/list"
    with Replay(
        Expected(*login, answer=token),
        Expected("GET", path, {**LIST, "accessToken": "one"}, answer=listing(host("10.0.0.3", 1))),
        Expected("GET", path, {**LIST, "accessToken": "one"}, status=403, answer=b"token expired!"),
        Expected(*login, answer={**token, "accessToken": "two"}),
        Expected("GET", path, {**LIST, "accessToken": "two"}, answer=listing(host("10.0.0.4", 1))),
    ) as nacos:
        us = registry(nacos.host, user="u", password=Secret("p&w"))
        assert await us.resolve(target(nacos.host), "http") == (("10.0.0.3", 1),)
        assert await us.resolve(target(nacos.host), "http") == (("10.0.0.4", 1),)
        await us.close()


async def test_a_refused_login_does_not_show_the_password():
    with Replay(
        Expected("POST", "/nacos/v1/auth/login", None, b"username=u&password=pw", status=403, answer=b"unknown user!")
    ) as nacos:
        us = registry(nacos.host, user="u", password=Secret("pw"))
        with pytest.raises(RegistryUnavailable, match="nacos refuses the user u with status 403") as refused:
            await us.resolve(target(nacos.host), "http")
        assert "pw" not in str(refused.value)
        await us.close()


@pytest.mark.parametrize(("status", "answer"), [(400, b"caused: Param 'x' is required."), (200, b'{"hosts":[{}]}')])
async def test_an_answer_that_is_none(status, answer):
    with Replay(Expected("GET", "/nacos/v1/ns/instance/list", LIST, status=status, answer=answer)) as nacos:
        us = registry(nacos.host)
        with pytest.raises(RegistryUnavailable, match="nacos"):
            await us.resolve(target(nacos.host), "http")
        await us.close()


async def test_a_registration_whose_answer_is_lost_is_taken_back_too():
    with Replay(
        Expected("POST", "/nacos/v1/ns/instance", REGISTER, status=500, answer=b"server is DOWN now"),
        Expected("DELETE", "/nacos/v1/ns/instance", INSTANCE, answer=b"ok"),
    ) as nacos:
        us = registry(nacos.host)
        with pytest.raises(RegistryUnavailable, match="500"):
            await us.register(target(nacos.host), US)
        await us.deregister()
        await us.close()
