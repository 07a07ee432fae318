"""DTM's drivers: which URLs they read, and what an operator is told about the others."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from reefknot.callers.base import DiscoveryError
from reefknot.callers.resolve import ServiceDiscovery, read_settings
from reefknot.callers.resolve.drivers import driver_names, find_driver
from reefknot.callers.resolve.registries import open_registry, registry_kinds
from reefknot.clock import SystemClock
from reefknot.config import Config, HttpMicroService, MicroService, SecretUrl
from reefknot.config.load import load
from reefknot.errors import ConfigError

GOZERO, KRATOS, EGO = "dtm-driver-gozero", "dtm-driver-kratos", "dtm-driver-ego"
SPRING = "dtm-driver-springcloud"
SPRING_TARGET = """{
    "Type": "nacos", "Addr": "n:8848",
    "ClientConfig": {"Username": "u", "Password": "pw"},
    "InstanceConfig": {"ServiceName": "me"}
}"""


def micro(driver, target="", end_point=""):
    return Config(micro_service=MicroService(driver=driver, target=SecretUrl(target), end_point=end_point))


def discovery(config):
    return ServiceDiscovery(
        read_settings(config),
        clock=SystemClock(),
        spawn=lambda work, name: asyncio.get_running_loop().create_task(work, name=name),
        make_id=lambda: "1",
    )


@pytest.mark.parametrize(
    ("driver", "url", "target", "method", "kind", "hosts", "service", "options"),
    [
        (GOZERO, "etcd://a:1,b:2/bank/p.S/M", "etcd://a:1,b:2/bank", "/p.S/M", "etcd", ("a:1", "b:2"), "bank", {}),
        (GOZERO, "etcd://a/bank.rpc/p.S/M", "etcd://a/bank.rpc", "/p.S/M", "etcd", ("a:2379",), "bank.rpc", {}),
        (GOZERO, "discov://a:1/bank/p.S/M", "discov://a:1/bank", "/p.S/M", "etcd", ("a:1",), "bank", {}),
        (GOZERO, "consul://a:8500/bank/p.S/M", "consul://a:8500/bank", "/p.S/M", "consul", ("a:8500",), "bank", {}),
        (
            GOZERO,
            "consul://a/bank?tag=x&wait=5s/p.S/M",
            "consul://a/bank?tag=x&wait=5s",
            "/p.S/M",
            "consul",
            ("a:8500",),
            "bank",
            {"tag": "x"},
        ),
        (
            GOZERO,
            "nacos://a:1/bank?namespaceid=n&timeout=5s/p.S/M",
            "nacos://a:1/bank?namespaceid=n&timeout=5s",
            "/p.S/M",
            "nacos",
            ("a:1",),
            "bank",
            {"namespace": "n"},
        ),
        (GOZERO, "etcd://a:1/bank/out?x=1&y=a/b", "etcd://a:1/bank", "/out?x=1&y=a/b", "etcd", ("a:1",), "bank", {}),
        (GOZERO, "etcd://[::1]:1/bank/p.S/M", "etcd://[::1]:1/bank", "/p.S/M", "etcd", ("[::1]:1",), "bank", {}),
        (KRATOS, "discovery://a:1/bank/p.S/M", "discovery://a:1/bank", "/p.S/M", "etcd", ("a:1",), "bank", {}),
        (KRATOS, "consul://a:1/bank/p.S/M", "consul://a:1/bank", "/p.S/M", "consul", ("a:1",), "bank", {}),
        (EGO, "k8s:///bank:9000/p.S/M", "k8s:///bank:9000", "/p.S/M", "dns", (), "bank:9000", {}),
        ("default", "dns:///b.ns:9000/p.S/M", "dns:///b.ns:9000", "/p.S/M", "dns", (), "b.ns:9000", {}),
        (GOZERO, "dns:///[::1]:9000/p.S/M", "dns:///[::1]:9000", "/p.S/M", "dns", (), "[::1]:9000", {}),
        (
            SPRING,
            "nacos://bank/out?group=G&clusters=C&x=1",
            "nacos://bank?group=G&clusters=C",
            "/out?group=G&clusters=C&x=1",
            "nacos",
            (),
            "bank",
            {"group": "G", "clusters": "C"},
        ),
        ("dtm-driver-http", "any://bank/out", "any://bank", "/out", "nacos", (), "bank", {}),
    ],
)
def test_urls_of_the_drivers(driver, url, target, method, kind, hosts, service, options):
    read = find_driver(driver, "MicroService.Driver")
    assert read.split(url) == (target, method)
    located = read.locate(target)
    assert (located.kind, located.hosts, located.service, dict(located.options)) == (kind, hosts, service, options)


@pytest.mark.parametrize(
    ("driver", "target", "url"),
    [
        (KRATOS, "discovery://a:1,b:2/me", "discovery:///bank/p.S/M"),
        (EGO, "etcd://a:1,b:2/me?userName=u&password=pw", "etcd:///bank/p.S/M"),
    ],
)
def test_a_url_without_servers_means_those_of_the_target(driver, target, url):
    found = discovery(micro(driver, target, "1.2.3.4:5"))
    split, method = found.split(url)
    assert (split, method) == (url.removesuffix("/p.S/M"), "/p.S/M")
    assert found._locate(found._driver(url), split).hosts == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("driver", "url", "text"),
    [
        ("default", "etcd://a:1/bank/p.S/M", "set MicroService.Driver to dtm-driver-gozero or dtm-driver-kratos"),
        (EGO, "consul://a:1/bank/p.S/M", "dtm-driver-ego does not read consul://"),
        ("default", "polaris://bank/p.S/M?namespace=X", "dtm-driver-polaris, which is not supported yet"),
        (GOZERO, "daprgrpc://DAPR_ENV/app/m", "dtm-driver-dapr, which is not supported yet"),
        (GOZERO, "nonsense://a/bank/p.S/M", "no discovery driver reads nonsense://"),
        (GOZERO, "htp://a/bank", "no discovery driver reads htp://; did you mean http://?"),
        ("default", "Htpps://a/bank", "no discovery driver reads Htpps://; did you mean https://?"),
        (GOZERO, "etcd://a:1/bank", "after the service bank there must be a / and a method"),
        (GOZERO, "etcd://a:1", "such as etcd://host:2379/service/package.Service/Method"),
        (GOZERO, "etcd:///bank/p.S/M", "no servers of the etcd registry: name them in MicroService.Target"),
        (GOZERO, "etcd://u:pw@a:1/bank/p.S/M", "put them into MicroService.Target"),
        (GOZERO, "consul://a:1/bank?token=pw/p.S/M", "put them into MicroService.Target"),
        ("default", "dns:///bank/p.S/M", "the name in dns:// has no port"),
        ("default", "dns://8.8.8.8/bank:1/p.S/M", "write dns:///name:port"),
    ],
)
def test_a_url_that_cannot_be_read_says_why(driver, url, text):
    with pytest.raises(DiscoveryError) as refused:
        discovery(micro(driver)).split(url)
    assert text in str(refused.value)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (micro("dtm-driver-gozer"), "MicroService.Driver: there is no driver 'dtm-driver-gozer': did you mean"),
        (micro("dtm-driver-polaris"), "MicroService.Driver: dtm-driver-polaris is not supported yet; use one of"),
        (micro("dtm-driver-dapr"), "dtm-driver-dapr is not supported yet"),
        (micro("x"), "there is no driver 'x'; use one of default, dtm-driver-gozero"),
        (micro(GOZERO, "etcd://a:1/me"), "MicroService.EndPoint: needed with MicroService.Target"),
        (micro(GOZERO, "etcd://a:1/me", "1.2.3.4"), "MicroService.EndPoint: '1.2.3.4' is not of the form host:port"),
        (
            micro(GOZERO, "etcd:///me", "h:1"),
            "MicroService.Target: it names no servers of the registry, as etcd://host:2379/service does",
        ),
        (micro(GOZERO, "etcd://a:1", "h:1"), "MicroService.Target: dtm-driver-gozero reads targets such as"),
        (micro(GOZERO, "zk://a:1/me", "h:1"), "MicroService.Target: dtm-driver-gozero reads targets such as"),
        (micro(KRATOS, "etcd://a:1/me?caPath=/nowhere/ca.pem", "h:1"), "cannot be used: /nowhere/ca.pem: No such file"),
        (
            micro(EGO, "etcd://a:1/me?certFile=/nowhere/c&enableSecure=true", "h:1"),
            "/nowhere/c and no key: No such file",
        ),
        (micro(SPRING, "nacos://x"), "MicroService.Target: expected a JSON object"),
        (micro(SPRING, '{"Type":"eureka"}'), "MicroService.Target: Type is 'eureka'"),
        (Config(http_micro_service=HttpMicroService(driver="y")), "HttpMicroService.Driver: there is no driver 'y'"),
        (
            Config(http_micro_service=HttpMicroService(driver="dtm-driver-http", registry_type="zk")),
            "HttpMicroService.RegistryType: 'zk' is not offered; use nacos",
        ),
        (
            Config(http_micro_service=HttpMicroService(driver="dtm-driver-http", registry_type="nacos")),
            "HttpMicroService: no address of the nacos server",
        ),
    ],
)
def test_settings_that_cannot_be_used_say_why(config, text):
    with pytest.raises(ConfigError) as refused:
        read_settings(config)
    assert text in str(refused.value)


def test_what_a_target_says(tmp_path):
    authority = trustme.CA()
    ours = authority.issue_cert("me")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "c.pem", "k.pem"))
    authority.cert_pem.write_to_path(ca)
    ours.cert_chain_pems[0].write_to_path(cert)
    ours.private_key_pem.write_to_path(key)
    target = f"etcd://u:p%40w@a,b:2/me?caPath={ca}&certPath={cert}&certKeyPath={key}"
    (found,) = read_settings(micro(KRATOS, target, "grpc://[::1]:5"))
    assert found.target.hosts == ("a:2379", "b:2")
    assert (found.target.kind, found.target.service, found.target.layout) == ("etcd", "me", "kratos")
    assert (found.access.user, found.access.password.reveal()) == ("u", "p@w")
    assert (found.access.tls, found.access.ca_file) == (True, str(ca))
    assert (found.access.certificate_file, found.access.key_file) == (str(cert), str(key))
    assert (found.endpoint.url, found.endpoint.host) == ("grpc://[::1]:5", "::1")
    assert "p%40w" not in str(micro(KRATOS, target).micro_service.target)

    (found,) = read_settings(micro(GOZERO, "etcd://a:1/me?user=u&password=pw", "h:5"))
    assert (found.access.user, found.access.password.reveal(), found.access.tls) == ("u", "pw", False)
    assert "pw" not in repr(found)


def test_the_json_of_the_spring_cloud_driver():
    (found,) = read_settings(micro(SPRING, SPRING_TARGET, "h:36789"))
    assert (found.target.kind, found.target.hosts, found.target.service) == ("nacos", ("n:8848",), "me")
    assert (found.access.user, found.access.password.reveal()) == ("u", "pw")
    assert found.endpoint.url == "http://h:36789"


def test_the_section_for_http():
    section = HttpMicroService(
        driver="dtm-driver-http",
        registry_type="nacos",
        registry_address="n1,n2:1",
        registry_options='{"UserName":"u","Password":"pw","NamespaceId":"ns"}',
        target=SecretUrl('{"ServiceName":"me","GroupName":"g","Weight":10}'),
        end_point="h:36789",
    )
    grpc, found = read_settings(Config(http_micro_service=section))
    assert (grpc.driver.name, grpc.target) == ("default", None)
    assert (found.target.hosts, found.target.service) == (("n1:8848", "n2:1"), "me")
    assert dict(found.target.options) == {"namespace": "ns", "group": "g", "weight": "10"}
    assert found.access.namespace == "ns"


def test_the_default_registers_nothing():
    (found,) = read_settings(Config())
    assert (found.driver.name, found.target, found.endpoint) == ("default", None, None)
    (found,) = read_settings(micro(GOZERO))
    assert found.target is None


def test_our_password_goes_to_the_configured_servers_only():
    found = discovery(micro(GOZERO, "etcd://a:1/me?user=u&password=pw", "h:5"))
    access = {
        url: found._access(found._locate(found._driver(url), found.split(url)[0])).user
        for url in ("etcd://a:1/bank/p.S/M", "discov://a:1/bank/p.S/M", "etcd://evil:1/bank/p.S/M", "consul://a:1/b/m")
    }
    assert list(access.values()) == ["u", "u", "", ""]


def test_every_kind_that_a_driver_names_has_a_module():
    named = {kind for name in driver_names() for kind in find_driver(name, "").kinds.values()}
    assert named | {"nacos"} == set(registry_kinds())
    from reefknot.callers.resolve.base import Access

    for kind in registry_kinds():
        assert open_registry(kind, ("h:1",), Access(), lambda: "1").heartbeat_seconds > 0


@pytest.mark.anyio
async def test_names_are_resolved_by_the_system():
    found = discovery(Config())
    target, method = found.split("dns:///localhost:9000/p.S/M")
    assert ("127.0.0.1", 9000) in await found.addresses(target, "grpc")
    assert method == "/p.S/M"
    with pytest.raises(DiscoveryError, match=r"nobody is registered as dns:///nobody\.invalid:1"):
        await found.addresses("dns:///nobody.invalid:1", "grpc")


@pytest.mark.parametrize("command", [["config", "check"], ["serve", "--store", "memory://"]])
def test_a_wrong_driver_is_told_before_anything_starts(command):
    environment = {**os.environ, "MICRO_SERVICE_DRIVER": "dtm-driver-polaris", "REEFKNOT_HTTP_PORT": "0"}
    words = [sys.executable, "-m", "reefknot", *command]
    ended = subprocess.run(words, env=environment, capture_output=True, check=False, text=True, timeout=60)
    assert ended.returncode == 2
    assert "MicroService.Driver: dtm-driver-polaris is not supported yet" in ended.stderr


def test_the_examples_of_the_page_are_settings(tmp_path):
    page = (Path(__file__).parents[2] / "docs/discovery.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    found = []
    for text in examples:
        file = tmp_path / "conf.yml"
        file.write_text(text, encoding="utf-8")
        found += [(one.target, one.endpoint.url) for one in read_settings(load(file).config) if one.target]
    assert [(target.kind, target.hosts, target.service, url) for target, url in found] == [
        ("etcd", ("10.0.0.1:2379", "10.0.0.2:2379"), "dtmservice", "grpc://10.0.0.7:36790"),
        ("nacos", ("127.0.0.1:8848", "127.0.0.2:8848"), "dtmService", "http://10.0.0.7:36789"),
    ]
    named = (*driver_names(), "dtm-driver-polaris", "dtm-driver-dapr", "dtm-driver-sponge")
    assert [name for name in named if f"`{name}`" not in page] == []
