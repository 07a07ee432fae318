"""The etcd adapter against a real etcd."""

import asyncio
import json
import secrets
import time
from contextlib import asynccontextmanager

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from reefknot.callers.resolve import http
from reefknot.callers.resolve.base import Access, Endpoint, RegistrationLost, RegistryUnavailable, ServiceTarget
from reefknot.callers.resolve.registries import etcd as module
from reefknot.callers.resolve.registries.etcd import EtcdRegistry
from reefknot.config import Secret
from reefknot.testing.databases.etcd import EtcdServer

pytestmark = pytest.mark.anyio

US = Endpoint("grpc", "10.0.0.9", 36790)
LAYOUTS = ["gozero", "kratos", "ego"]


@pytest.fixture
def service():
    return f"bank-{secrets.token_hex(4)}"


@asynccontextmanager
async def registry(*hosts, **access):
    one = EtcdRegistry(hosts, Access(**access), lambda: secrets.token_hex(8))
    try:
        yield one
    finally:
        await one.close()


def target(service, layout="gozero"):
    return ServiceTarget("etcd", (), service, layout)


async def until(condition, seconds=20.0):
    """Wait until the coroutine function says something true."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


def switch_authentication_on(server):
    server.control("user", "add", "root:pw1")
    server.control("user", "grant-role", "root", "root")
    server.control("auth", "enable")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_what_is_registered_is_resolved_until_it_leaves(etcd, service, layout):
    async with registry(etcd.host) as one, registry(etcd.host) as two:
        place = target(service, layout)
        assert await one.resolve(place, "grpc") == ()
        await one.register(place, US)
        await one.register(place, US)  # twice is no error and no second address
        await two.register(place, Endpoint("grpc", "::1", 2))
        assert await two.resolve(place, "grpc") == (("10.0.0.9", 36790), ("::1", 2))
        await one.heartbeat()
        # A name that begins like ours is another service.
        assert await two.resolve(target(service[:-1], layout), "grpc") == ()
        await two.deregister()
        await two.deregister()
        assert await one.resolve(place, "grpc") == (("10.0.0.9", 36790),)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_keys_and_values_are_those_of_the_framework(etcd, service, layout):
    async with registry(etcd.host) as one:
        await one.register(target(service, layout), US)
        prefix = {"gozero": f"{service}/", "kratos": f"/microservices/{service}/", "ego": f"/ego/{service}/"}[layout]
        key, value = etcd.control("get", "--prefix", prefix).splitlines()
        if layout == "gozero":
            assert (key, value) == (f"{service}/{one._lease}", "10.0.0.9:36790")
        elif layout == "kratos":
            instance = json.loads(value)
            assert key == f"{prefix}{instance.pop('id')}"
            endpoints = ["grpc://10.0.0.9:36790"]
            assert instance == {"name": service, "version": "", "metadata": {}, "endpoints": endpoints}
        else:
            info = json.loads(value)
            assert key == f"{prefix}providers/grpc://10.0.0.9:36790"
            assert (info["name"], info["scheme"], info["address"]) == (service, "grpc", "10.0.0.9:36790")
            assert (info["enable"], info["healthy"], info["weight"], info["kind"]) == (True, True, 100, 1)


async def test_instances_that_frameworks_wrote_are_understood(etcd, service):
    kratos = {"id": "1", "name": service, "endpoints": ["http://10.0.0.1:80?isSecure=false", "grpc://10.0.0.1:90"]}
    secure = {"id": "2", "name": service, "endpoints": ["grpc://10.0.0.2:90?isSecure=true"]}
    etcd.control("put", f"/microservices/{service}/1", json.dumps(kratos))
    etcd.control("put", f"/microservices/{service}/2", json.dumps(secure))
    etcd.control("put", f"/microservices/{service}/3", "no JSON")
    etcd.control("put", f"/microservices/{service}/4", json.dumps({**kratos, "name": "other"}))
    etcd.control("put", f"/microservices/{service}/5", json.dumps({"name": service, "endpoints": "x"}))
    ego = {"name": service, "scheme": "grpc", "address": "10.0.0.3:90", "enable": True, "healthy": True}
    etcd.control("put", f"/ego/{service}/providers/grpc://10.0.0.3:90", json.dumps(ego))
    off = json.dumps({**ego, "address": "10.0.0.4:90", "enable": False})
    etcd.control("put", f"/ego/{service}/providers/grpc://10.0.0.4:90", off)
    etcd.control("put", f"{service}/1", "10.0.0.5:90")
    etcd.control("put", f"{service}/2", "nonsense")
    async with registry(etcd.host) as one:
        assert await one.resolve(target(service, "kratos"), "grpc") == (("10.0.0.1", 90),)
        assert await one.resolve(target(service, "kratos"), "http") == (("10.0.0.1", 80),)
        assert await one.resolve(target(service, "ego"), "grpc") == (("10.0.0.3", 90),)
        assert await one.resolve(target(service, "ego"), "http") == ()
        assert await one.resolve(target(service), "http") == (("10.0.0.5", 90),)


async def test_a_service_that_fell_silent_disappears_and_hears_of_it(etcd, service, monkeypatch):
    monkeypatch.setattr(module, "LEASE_SECONDS", 1)
    async with registry(etcd.host) as one:
        await one.register(target(service), US)
        assert await one.resolve(target(service), "grpc") == (("10.0.0.9", 36790),)

        async def gone():
            return not await one.resolve(target(service), "grpc")

        await until(gone)
        with pytest.raises(RegistrationLost):
            await one.heartbeat()
        await one.deregister()  # of what is gone is no error
        await one.register(target(service), US)
        assert await one.resolve(target(service), "grpc") == (("10.0.0.9", 36790),)


async def test_a_lease_that_is_gone_before_the_key_is_written(etcd, service, monkeypatch):
    async with registry(etcd.host) as one:
        await one.register(target(service), US)
        etcd.control("lease", "revoke", f"{int(one._lease):x}")
        with pytest.raises(RegistrationLost):
            await one._call("kv/put", {"key": "eA==", "value": "eA==", "lease": one._lease})


async def test_a_member_that_is_away_or_hangs_is_passed_over(etcd, service, monkeypatch):
    with EtcdServer() as other:
        async with registry("127.0.0.1:1", other.host, etcd.host) as one:
            await one.register(target(service), US)  # at the second
            assert one._client._hosts[0] == other.host
            other.freeze()
            monkeypatch.setattr(http, "ANSWER_SECONDS", 0.5)
            assert await one.resolve(target(service), "grpc") == ()  # another cluster, so nobody is there
            assert one._client._hosts[0] == etcd.host


async def test_nobody_answers():
    async with registry("127.0.0.1:1") as one:
        with pytest.raises(RegistryUnavailable, match=r"etcd cannot be asked \(127\.0\.0\.1:1: "):
            await one.resolve(target("x"), "grpc")


async def test_user_and_password(service):
    with EtcdServer() as server:
        switch_authentication_on(server)
        async with registry(server.host, user="root", password=Secret("pw1")) as one:
            await one.register(target(service), US)
            assert await one.resolve(target(service), "grpc") == (("10.0.0.9", 36790),)
            one._token = "as good as expired"
            await one.heartbeat()
            assert await one.resolve(target(service), "grpc") == (("10.0.0.9", 36790),)
        async with registry(server.host) as stranger:
            with pytest.raises(RegistryUnavailable, match="etcd refuses kv/range with status 400"):
                await stranger.resolve(target(service), "grpc")
        async with registry(server.host, user="root", password=Secret("hunter2")) as stranger:
            with pytest.raises(RegistryUnavailable, match="etcd refuses the user root") as refused:
                await stranger.resolve(target(service), "grpc")
            assert "hunter2" not in str(refused.value)


async def test_a_change_of_users_makes_tokens_old_and_we_log_in_again(service, tmp_path):
    """The tokens of production are JWT; they say which state of the users they are of."""
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind = serialization.PrivateFormat.TraditionalOpenSSL
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with EtcdServer(f"--auth-token=jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m") as server:
        switch_authentication_on(server)
        async with registry(server.host, user="root", password=Secret("pw1")) as one:
            await one.register(target(service), US)
            here = (("10.0.0.9", 36790),)
            server.control("--user=root:pw1", "user", "add", "somebody:pw")
            assert await one.resolve(target(service), "grpc") == here
            server.control("--user=root:pw1", "user", "delete", "somebody")
            await one.heartbeat()
            server.control("--user=root:pw1", "role", "add", "reader")
            await one.deregister()
            assert await one.resolve(target(service), "grpc") == ()
            server.control("--user=root:pw1", "role", "delete", "reader")
            await one.register(target(service), US)
            assert await one.resolve(target(service), "grpc") == here


async def test_authentication_is_switched_off_and_on_while_we_have_a_user(service):
    with EtcdServer() as server:
        async with registry(server.host, user="root", password=Secret("pw1")) as one:
            await one.register(target(service), US)
            assert one._token == ""
            switch_authentication_on(server)
            assert await one.resolve(target(service), "grpc") == (("10.0.0.9", 36790),)
            await one.heartbeat()
            assert one._token
            server.control("--user=root:pw1", "auth", "disable")
            assert await one.resolve(target(service), "grpc") == (("10.0.0.9", 36790),)
            await one.heartbeat()
            await one.deregister()


async def test_workers_of_ego_on_one_address_notice_that_one_of_them_took_the_registration_along(etcd, service):
    """They have one key, under the lease of the last."""
    place = target(service, "ego")
    async with registry(etcd.host) as one, registry(etcd.host) as two, registry(etcd.host) as three:
        for worker in (one, two, three):
            await worker.register(place, US)
        await one.heartbeat()  # the key is another one's, and there: nothing to do
        assert await one.resolve(place, "grpc") == (("10.0.0.9", 36790),)
        await three.deregister()
        with pytest.raises(RegistrationLost, match="another worker"):
            await one.heartbeat()
        await one.register(place, US)
        await two.heartbeat()
        assert await two.resolve(place, "grpc") == (("10.0.0.9", 36790),)


async def test_tls_with_certificates_on_both_sides(service, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    files = {name: str(tmp_path / name) for name in ("ca", "other", "cert", "key", "client", "client_key")}
    authority.cert_pem.write_to_path(files["ca"])
    stranger.cert_pem.write_to_path(files["other"])
    ours = authority.issue_cert("127.0.0.1", "localhost")
    ours.cert_chain_pems[0].write_to_path(files["cert"])
    ours.private_key_pem.write_to_path(files["key"])
    flags = [f"--cert-file={files['cert']}", f"--key-file={files['key']}"]
    flags += ["--client-cert-auth", f"--trusted-ca-file={files['ca']}"]
    with EtcdServer(*flags, scheme="https") as server:
        proof = {"certificate_file": files["cert"], "key_file": files["key"]}
        async with registry(server.host, tls=True, ca_file=files["ca"], **proof) as one:
            await one.register(target(service), US)
            assert await one.resolve(target(service), "grpc") == (("10.0.0.9", 36790),)
        for access in ({"ca_file": files["ca"]}, {"ca_file": files["other"], **proof}):
            async with registry(server.host, tls=True, **access) as one:
                with pytest.raises(RegistryUnavailable):
                    await one.resolve(target(service), "grpc")
        async with registry(server.host, tls=True, ca_file="/nowhere/ca.pem") as one:
            with pytest.raises(RegistryUnavailable, match=r"/nowhere/ca\.pem"):
                await one.resolve(target(service), "grpc")
