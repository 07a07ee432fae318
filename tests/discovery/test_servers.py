"""Whole servers and services in a real etcd: one is killed, one moves, and everybody goes on."""

import asyncio
import itertools
import json
import secrets
import time
from urllib.parse import quote

import grpc
import pytest

from reefknot.callers.base import DiscoveryError
from reefknot.callers.resolve import ServiceDiscovery, read_settings
from reefknot.callers.resolve.base import Access, Endpoint
from reefknot.callers.resolve.registries.etcd import EtcdRegistry
from reefknot.clock import SystemClock
from reefknot.config import Config, MicroService, SecretUrl
from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.grpc_participant import GrpcParticipant
from reefknot.testing.participant import Participant, Say
from reefknot.testing.server import Client, LocalServer, ServerProcess

pytestmark = pytest.mark.anyio

GOZERO = "dtm-driver-gozero"
PATIENCE_SECONDS = 30.0


def discovery(driver=GOZERO, target=""):
    place = MicroService(driver=driver, target=SecretUrl(target), end_point="127.0.0.1:1")
    return ServiceDiscovery(
        read_settings(Config(micro_service=place)),
        clock=SystemClock(),
        spawn=lambda work, name: asyncio.get_running_loop().create_task(work, name=name),
        make_id=lambda: secrets.token_hex(8),
    )


async def registered(services, target, scheme):
    try:
        return await services.addresses(target, scheme)
    except DiscoveryError:
        return ()


async def until(condition, seconds=PATIENCE_SECONDS):
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.05)


def node(store_url, etcd, name):
    """A server process that registers both of its ports."""
    server = ServerProcess(store_url, grpc=True)
    server._environment.update(
        REEFKNOT_MICRO_SERVICE_DRIVER=GOZERO,
        REEFKNOT_MICRO_SERVICE_TARGET=f"etcd://{etcd.host}/{name}-grpc",
        REEFKNOT_MICRO_SERVICE_END_POINT=server.grpc_address,
        REEFKNOT_HTTP_MICRO_SERVICE_DRIVER=GOZERO,
        REEFKNOT_HTTP_MICRO_SERVICE_TARGET=f"etcd://{etcd.host}/{name}-http",
        REEFKNOT_HTTP_MICRO_SERVICE_END_POINT=f"127.0.0.1:{server._port}",
        REEFKNOT_RETRY_INTERVAL="1",
    )
    return server


class Load:
    """Clients that look the servers up in etcd and repeat a submit elsewhere when a server is gone."""

    def __init__(self, services, name, host, action):
        self._services = services
        self._targets = {scheme: f"etcd://{host}/{name}-{scheme}" for scheme in ("http", "grpc")}
        self._steps = [{"action": action, "compensate": action}]
        self._turns = itertools.count()
        self.acknowledged: list[str] = []
        self.repeated = 0
        self.over = asyncio.Event()

    async def run(self, scheme):
        while not self.over.is_set():
            gid = f"{scheme}-{secrets.token_hex(6)}"
            await self.submit(scheme, gid)
            self.acknowledged.append(gid)
            await asyncio.sleep(0.2)

    async def submit(self, scheme, gid):
        """Try each server in turn, and fail if none of them takes it."""
        addresses = await self._services.addresses(self._targets[scheme], scheme)
        first = next(self._turns) % len(addresses)
        send = self._over_http if scheme == "http" else self._over_grpc
        for host, port in addresses[first:] + addresses[:first]:
            try:
                await asyncio.to_thread(send, host, port, gid)
            except (OSError, grpc.RpcError):
                self.repeated += 1
            else:
                return
        raise AssertionError(f"none of {addresses} takes {gid}")

    def _over_http(self, host, port, gid):
        fields = {"gid": gid, "trans_type": "saga", "steps": self._steps, "payloads": ["{}"]}
        assert Client(host, port).post("submit", fields).status == 200

    def _over_grpc(self, host, port, gid):
        fields = {"Gid": gid, "TransType": "saga", "Steps": json.dumps(self._steps), "BinPayloads": [b"{}"]}
        with GrpcClient(f"{host}:{port}") as client:
            client.dtm("Submit", fields)


async def test_clients_go_on_when_one_of_three_servers_is_killed(etcd, postgres):
    name = f"reefknot-{secrets.token_hex(4)}"
    store_url = f"{postgres.url}?schema={quote(name)}"
    services = discovery()
    with Participant() as bank:
        nodes = [node(store_url, etcd, name) for _ in range(3)]
        load = Load(services, name, etcd.host, bank.url("/move"))
        try:
            await asyncio.gather(*(asyncio.to_thread(one.start) for one in nodes))

            async def all_are_there():
                found = [await registered(services, target, scheme) for scheme, target in load._targets.items()]
                return [len(addresses) for addresses in found] == [3, 3]

            await until(all_are_there)
            clients = [asyncio.create_task(load.run(scheme)) for scheme in ("http", "grpc", "http", "grpc")]
            await asyncio.sleep(1)
            killed_at = time.monotonic()
            nodes[0].kill()

            async def the_dead_one_is_gone():
                return len(await registered(services, load._targets["http"], "http")) == 2

            await until(the_dead_one_is_gone)
            took = time.monotonic() - killed_at
            assert load.repeated > 0, "no client met the dead server"
            # One that is stopped in order leaves at once, not after its lease.
            stopping = asyncio.create_task(asyncio.to_thread(nodes[1].stop))

            async def one_is_left():
                return len(await registered(services, load._targets["grpc"], "grpc")) == 1

            await until(one_is_left, seconds=8)
            await asyncio.sleep(0.5)
            load.over.set()
            await asyncio.gather(*clients)
            assert await stopping == 0
            assert took < 20
            assert {gid.partition("-")[0] for gid in load.acknowledged} == {"http", "grpc"}
            for gid in load.acknowledged:
                await asyncio.to_thread(nodes[2].wait_for, gid, "succeed")
        finally:
            for one in nodes:
                one.kill()
            await services.close()


@pytest.mark.parametrize(
    ("driver", "protocol"),
    [(GOZERO, "http"), ("dtm-driver-kratos", "http"), ("dtm-driver-ego", "grpc")],
)
async def test_calls_follow_a_branch_service_that_moves(etcd, driver, protocol):
    name = f"bank-{secrets.token_hex(4)}"
    target = f"etcd://{etcd.host}/me-{name}"
    branch = f"etcd://{etcd.host}/{name}" if driver == GOZERO else f"etcd:///{name}"
    url = branch + ("/bank/out" if protocol == "http" else "/bank.Bank/Out")
    services = discovery(driver, target)
    located = services._locate(services._driver(url), branch)
    kind = Participant if protocol == "http" else GrpcParticipant
    place = MicroService(driver=driver, target=SecretUrl(target), end_point="127.0.0.1:1")
    registry = EtcdRegistry((etcd.host,), Access(), lambda: secrets.token_hex(8))
    settings = {"micro_service": place, "retry_interval": 1, "request_timeout": 1}
    with LocalServer("memory://", poll=True, grpc=protocol == "grpc", **settings) as server:

        def submit(gid, wait):
            steps = [{"action": url, "compensate": url}]
            if protocol == "http":
                fields = {"gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["{}"], "wait_result": wait}
                assert server.post("submit", fields).status == 200
                return
            with GrpcClient(server.grpc_address) as client:
                options = {"WaitResult": wait}
                fields = {"Gid": gid, "TransType": "saga", "Steps": json.dumps(steps), "BinPayloads": [b"{}"]}
                client.dtm("Submit", {**fields, "TransOptions": options})

        with kind() as bank:
            if protocol == "http":  # its threads outlive it as long as a client keeps a connection
                bank.always("/bank/out", Say(headers=(("Connection", "close"),)))
            await registry.register(located, Endpoint(protocol, "127.0.0.1", bank_port(bank)))
            await asyncio.to_thread(submit, "before", True)
            assert [call.gid for call in bank.calls] == ["before"]
        # The service is gone, and etcd does not know it yet.
        await asyncio.to_thread(submit, "meanwhile", False)
        with kind() as bank:
            await registry.deregister()
            await registry.register(located, Endpoint(protocol, "127.0.0.1", bank_port(bank)))
            await asyncio.to_thread(server.wait_for, "meanwhile", "succeed")
            await asyncio.to_thread(submit, "after", True)
            assert [call.gid for call in bank.calls] == ["meanwhile", "after"]
            paths = {call.path.partition("?")[0] for call in bank.calls}
            assert paths == {"/bank/out" if protocol == "http" else "/bank.Bank/Out"}
            await registry.deregister()
    await registry.close()
    await services.close()


def bank_port(bank):
    return bank.port if isinstance(bank, GrpcParticipant) else bank._server.server_port


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_a_branch_by_its_name_in_dns(protocol):
    kind = Participant if protocol == "http" else GrpcParticipant
    with kind() as bank, LocalServer("memory://", grpc=protocol == "grpc") as server:
        url = f"dns:///localhost:{bank_port(bank)}" + ("/bank/out" if protocol == "http" else "/bank.Bank/Out")
        steps = [{"action": url, "compensate": url}]
        if protocol == "http":
            fields = {"gid": "g", "trans_type": "saga", "steps": steps, "payloads": ["{}"]}
            assert (await asyncio.to_thread(server.post, "submit", fields)).status == 200
        else:
            with GrpcClient(server.grpc_address) as client:
                fields = {"Gid": "g", "TransType": "saga", "Steps": json.dumps(steps), "BinPayloads": [b"{}"]}
                await asyncio.to_thread(client.dtm, "Submit", fields)
        await asyncio.to_thread(server.wait_for, "g", "succeed")
        assert [call.gid for call in bank.calls] == ["g"]


async def test_a_submit_says_what_is_wrong_with_a_service_url(etcd):
    with LocalServer("memory://") as server:
        for url, text in [
            ("etcd://h:1/bank/out", "set MicroService.Driver to dtm-driver-gozero"),
            ("polaris://bank/out", "dtm-driver-polaris, which is not supported yet"),
        ]:
            fields = {"gid": "g", "trans_type": "saga", "steps": [{"action": url}], "payloads": ["{}"]}
            answer = await asyncio.to_thread(server.post, "submit", fields)
            assert answer.status == 400
            assert text in answer.body.decode()
