"""The Consul adapter against a written exchange: requests and answers as Consul's API documentation has them."""

import pytest

from discovery.replay import Expected, Replay
from reefknot.callers.resolve.base import Access, Endpoint, RegistrationLost, RegistryUnavailable, ServiceTarget
from reefknot.callers.resolve.registries.consul import ConsulRegistry
from reefknot.config import Secret

pytestmark = pytest.mark.anyio

US = Endpoint("grpc", "10.0.0.9", 36790)


def target(host, layout="gozero", **options):
    return ServiceTarget("consul", (host,), "bank", layout, tuple(sorted(options.items())))


def registry(host, **access):
    return ConsulRegistry((host,), Access(**access), lambda: "1")


def entry(service, node="10.0.0.1"):
    return {
        "Node": {"ID": "40e4a748", "Node": "n1", "Address": node, "Datacenter": "dc1"},
        "Service": {"ID": "x", "Service": "bank", "Tags": ["tag", "rpc"], "Meta": {}, **service},
        "Checks": [{"Node": "n1", "CheckID": "service:x", "Status": "passing", "ServiceID": "x"}],
    }


def registering(layout="gozero"):
    return Expected(
        "PUT",
        "/v1/agent/service/register",
        body={
            "ID": "bank-10.0.0.9-36790",
            "Name": "bank",
            "Tags": ["tag", "rpc"] if layout == "gozero" else ["version="],
            "Address": "10.0.0.9",
            "Port": 36790,
            "Meta": {"Protocol": "grpc"} if layout == "gozero" else {},
            "TaggedAddresses": {"grpc": {"Address": "grpc://10.0.0.9:36790", "Port": 36790}},
            "Checks": [
                {
                    "CheckID": "service:bank-10.0.0.9-36790",
                    "TTL": "30s",
                    "Status": "passing",
                    "DeregisterCriticalServiceAfter": "90s",
                }
            ],
        },
    )


def beating(**answer):
    path = "/v1/agent/check/update/service:bank-10.0.0.9-36790"
    return Expected("PUT", path, body={"Status": "passing", "Output": ""}, **answer)


@pytest.mark.parametrize("layout", ["gozero", "kratos"])
async def test_a_registration_from_its_beginning_to_its_end(layout):
    leaving = Expected("PUT", "/v1/agent/service/deregister/bank-10.0.0.9-36790")
    with Replay(registering(layout), beating(), beating(), leaving) as consul:
        us = registry(consul.host)
        await us.register(target(consul.host, layout), US)
        await us.heartbeat()
        await us.heartbeat()
        await us.deregister()
        await us.deregister()  # there is nothing left
        await us.close()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, b'Unknown check ID "service:x". Ensure that the check ID is passed'),
        (500, b'CheckID "service:x" does not have associated TTL'),
    ],
)
async def test_an_agent_that_forgot_us(status, text):
    with Replay(registering(), beating(status=status, answer=text)) as consul:
        us = registry(consul.host)
        await us.register(target(consul.host), US)
        with pytest.raises(RegistrationLost):
            await us.heartbeat()
        await us.close()


async def test_instances_that_pass_are_resolved():
    listing = Expected(
        "GET",
        "/v1/health/service/bank",
        {"passing": "true", "tag": "rpc", "dc": "dc1"},
        answer=[
            entry({"Address": "10.0.0.3", "Port": 9000}),
            entry({"Address": "", "Port": 9001}, node="10.0.0.2"),
            entry({"Address": "10.0.0.3", "Port": 9000}),
            entry({"Address": "10.0.0.5", "Port": 0}),
        ],
    )
    with Replay(listing) as consul:
        us = registry(consul.host)
        found = await us.resolve(target(consul.host, tag="rpc", dc="dc1"), "grpc")
        assert found == (("10.0.0.2", 9001), ("10.0.0.3", 9000))
        await us.close()


async def test_an_instance_of_kratos_has_an_address_for_each_protocol():
    service = {
        "Address": "10.0.0.3",
        "Port": 8000,
        "TaggedAddresses": {
            "lan_ipv4": {"Address": "10.0.0.3", "Port": 8000},
            "http": {"Address": "http://10.0.0.3:8000", "Port": 8000},
            "grpc": {"Address": "grpc://10.0.0.3:9000?isSecure=false", "Port": 9000},
        },
    }
    asked = ("GET", "/v1/health/service/bank", {"passing": "true"})
    with Replay(Expected(*asked, answer=[entry(service)]), Expected(*asked, answer=[entry(service)])) as consul:
        us = registry(consul.host)
        assert await us.resolve(target(consul.host), "grpc") == (("10.0.0.3", 9000),)
        assert await us.resolve(target(consul.host), "http") == (("10.0.0.3", 8000),)
        await us.close()


async def test_token_and_password_are_sent_in_headers():
    headers = {"X-Consul-Token": "t0ken", "Authorization": "Basic dTpwdw=="}
    asked = Expected("GET", "/v1/health/service/bank", {"passing": "true"}, headers=headers, answer=[])
    with Replay(asked) as consul:
        us = registry(consul.host, token=Secret("t0ken"), user="u", password=Secret("pw"))
        assert await us.resolve(target(consul.host), "grpc") == ()
        await us.close()


@pytest.mark.parametrize(("status", "answer"), [(403, b"Permission denied"), (200, b"<html>"), (503, b"no leader")])
async def test_an_answer_that_is_none(status, answer):
    asked = Expected("GET", "/v1/health/service/bank", {"passing": "true"}, status=status, answer=answer)
    with Replay(asked) as consul:
        us = registry(consul.host)
        with pytest.raises(RegistryUnavailable, match="consul"):
            await us.resolve(target(consul.host), "grpc")
        await us.close()


async def test_the_next_agent_is_asked_and_remembered():
    asked = Expected("GET", "/v1/health/service/bank", {"passing": "true"}, answer=[])
    with Replay(asked, asked) as consul:
        us = ConsulRegistry(("127.0.0.1:1", consul.host), Access(), lambda: "1")
        assert await us.resolve(target(consul.host), "grpc") == ()
        assert us._client._hosts == [consul.host, "127.0.0.1:1"]
        assert await us.resolve(target(consul.host), "grpc") == ()
        await us.close()


async def test_a_registration_whose_answer_is_lost_is_taken_back_too():
    lost = registering()
    lost.status, lost.answer = 503, b"no leader"
    leaving = Expected("PUT", "/v1/agent/service/deregister/bank-10.0.0.9-36790")
    with Replay(lost, leaving) as consul:
        us = registry(consul.host)
        with pytest.raises(RegistryUnavailable, match="503"):
            await us.register(target(consul.host), US)
        await us.deregister()
        await us.close()
