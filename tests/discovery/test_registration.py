"""How a server keeps itself in a registry: a real etcd that goes away, forgets, and comes back."""

import asyncio
import logging
import secrets
import shutil
import time

import pytest

from reefknot import registration as module
from reefknot.callers.resolve import read_settings
from reefknot.callers.resolve.base import Access
from reefknot.callers.resolve.registries import etcd as etcd_module
from reefknot.callers.resolve.registries.etcd import EtcdRegistry
from reefknot.clock import SystemClock
from reefknot.config import Config, HttpMicroService, MicroService, SecretUrl
from reefknot.registration import Registrations
from reefknot.testing.databases.etcd import EtcdServer

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 2


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Heartbeats and leases that a test can wait for."""
    monkeypatch.setattr(etcd_module, "LEASE_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(EtcdRegistry, "heartbeat_seconds", 0.2)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)


@pytest.fixture
def own_etcd(etcd):  # the other one says whether there is a program
    with EtcdServer() as server:
        yield server


class Us:
    """A server's registrations, as its configuration asks for them."""

    def __init__(self, server, **more):
        self.name = f"reefknot-{secrets.token_hex(4)}"
        place = MicroService(
            driver="dtm-driver-gozero", target=SecretUrl(f"etcd://{server.host}/{self.name}"), end_point="10.0.0.9:1"
        )
        self.configured = read_settings(Config(micro_service=place, **more))
        self.registrations = Registrations(self.configured, SystemClock(), lambda: secrets.token_hex(8))
        self.host = server.host

    async def found(self, name=""):
        """The addresses under our name, asked for on a connection of its own."""
        registry = EtcdRegistry((self.host,), Access(), lambda: "1")
        try:
            return await registry.resolve(self.configured[0].target._replace(service=name or self.name), "grpc")
        finally:
            await registry.close()

    async def until(self, *addresses, seconds=20.0):
        end = time.monotonic() + seconds
        while await self.found() != addresses:
            assert time.monotonic() < end, f"not {addresses} after {seconds} s"
            await asyncio.sleep(0.02)


HERE = ("10.0.0.9", 1)


async def test_it_registers_and_leaves(etcd):
    us = Us(etcd)
    us.registrations.start()
    await us.until(HERE)
    await us.registrations.withdraw()
    assert await us.found() == ()
    await us.registrations.withdraw()  # a second time is nothing


async def test_both_sections_are_registered(etcd):
    name = f"http-{secrets.token_hex(4)}"
    http = HttpMicroService(
        driver="dtm-driver-gozero", target=SecretUrl(f"etcd://{etcd.host}/{name}"), end_point="10.0.0.9:2"
    )
    us = Us(etcd, http_micro_service=http)
    us.registrations.start()
    await us.until(HERE)
    while await us.found(name) != (("10.0.0.9", 2),):
        await asyncio.sleep(0.02)
    await us.registrations.withdraw()
    assert (await us.found(), await us.found(name)) == ((), ())


async def test_heartbeats_go_on_after_a_restart_of_etcd(own_etcd):
    us = Us(own_etcd)
    us.registrations.start()
    await us.until(HERE)
    own_etcd.kill()
    own_etcd.start()
    await us.until(HERE)
    await asyncio.sleep(LEASE_SECONDS * 1.5)
    assert await us.found() == (HERE,)
    await us.registrations.withdraw()


async def test_an_etcd_that_lost_its_data_is_told_again(own_etcd, caplog):
    us = Us(own_etcd)
    us.registrations.start()
    await us.until(HERE)
    own_etcd.kill()
    shutil.rmtree(own_etcd._directory / "data")
    with caplog.at_level(logging.INFO, "reefknot.registration"):
        await asyncio.sleep(0.5)  # a few heartbeats find nobody, and one line says so
        own_etcd.start()
        await us.until(HERE)
    lines = [record.message for record in caplog.records]
    assert lines.count("registry does not answer, trying on") == 1
    assert lines.count("registration lost, registering again") == 1
    assert lines[-1] == "registered"
    await us.registrations.withdraw()


async def test_a_registration_that_expired_is_made_again(etcd):
    us = Us(etcd)
    us.registrations.start()
    await us.until(HERE)
    key = etcd.control("get", "--prefix", "--keys-only", f"{us.name}/").strip()
    lease = int(key.rpartition("/")[2])
    etcd.control("lease", "revoke", f"{lease:x}")
    assert await us.found() == ()
    await us.until(HERE)
    await us.registrations.withdraw()


async def test_a_registry_that_is_down_at_the_start_is_tried_until_it_answers(own_etcd):
    us = Us(own_etcd)
    own_etcd.kill()
    us.registrations.start()
    await asyncio.sleep(0.5)
    own_etcd.start()
    await us.until(HERE)
    await us.registrations.withdraw()


async def test_a_stop_does_not_wait_for_a_registry_that_hangs(own_etcd, monkeypatch, caplog):
    monkeypatch.setattr(module, "WITHDRAW_SECONDS", 0.3)
    us = Us(own_etcd)
    us.registrations.start()
    await us.until(HERE)
    own_etcd.freeze()
    began = time.monotonic()
    await us.registrations.withdraw()
    assert time.monotonic() - began < 2
    assert "not deregistered; the registration expires by itself" in caplog.text


async def test_a_defect_in_an_adapter_does_not_end_the_registration(etcd, monkeypatch, caplog):
    register, failures = EtcdRegistry.register, iter([KeyError("defect")])

    async def once_broken(self, target, endpoint):
        for failure in failures:
            raise failure
        await register(self, target, endpoint)

    monkeypatch.setattr(EtcdRegistry, "register", once_broken)
    us = Us(etcd)
    us.registrations.start()
    await us.until(HERE)
    assert "registration failed, trying on" in caplog.text
    await us.registrations.withdraw()
