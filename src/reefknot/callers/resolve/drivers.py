"""DTM's discovery drivers by name: which URLs they read and what those mean.

A driver is chosen once for a process. ``<scheme>://<servers>/<service>/<method>`` is the form that
most of them share: the text up to the service is the target, the rest from the next slash on is the
method of gRPC, or path and query of HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qs, unquote

from reefknot.callers.base import DiscoveryError
from reefknot.callers.resolve.base import ServiceTarget, read_endpoint, sorted_options
from reefknot.errors import ConfigError

_URL = re.compile(
    r"(?P<target>[A-Za-z][A-Za-z0-9+.-]*://(?P<hosts>[^/?#]*)/(?P<service>[^/?#]+)(?:\?(?P<query>[^/#]*))?)"
    r"(?P<method>/[^#]*)?"
)
# In a target of its own the query may have slashes: names of files.
_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<hosts>[^/?#]*)/(?P<service>[^/?#]+)/?(?:\?(?P<query>[^#]*))?")
_NAMED_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<service>[^/?#@]+)(?P<method>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)

#: Query parameters of a service URL that narrow the choice, by the kind of registry: name in the URL to ours.
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "consul": {"tag": "tag", "dc": "dc", "near": "near"},
    "nacos": {
        "namespaceid": "namespace",
        "namespaceId": "namespace",
        "group": "group",
        "groupName": "group",
        "clusters": "clusters",
    },
}
#: Query parameters that let one in. A branch URL is stored and shown, so it must not hold them.
_CREDENTIALS = frozenset({"user", "userName", "password", "token", "accessToken"})

#: The port of a registry's server where a URL leaves it out.
_PORTS = {"etcd": 2379, "consul": 8500, "nacos": 8848}


@dataclass(frozen=True)
class Driver:
    """What one driver reads.

    Args:
        name: as in ``MicroService.Driver``.
        kinds: URL scheme to the kind of registry.
        layout: whose convention the registry's entries follow.
        service_is_host: the URL has the service where others have the servers, and any scheme.
    """

    name: str
    kinds: Mapping[str, str]
    layout: str = "gozero"
    service_is_host: bool = False

    def kind(self, scheme: str) -> str:
        """The kind of registry that a URL with this scheme means; empty if the driver does not read it."""
        return "nacos" if self.service_is_host and scheme != "dns" else self.kinds.get(scheme, "")

    def split(self, url: str) -> tuple[str, str]:
        """Target and method of a branch URL.

        Raises:
            DiscoveryError: the URL has not the form that the driver asks for.
        """
        scheme = url.partition("://")[0]
        if self.service_is_host and self.kind(scheme) != "dns":
            return self._split_named(url)
        match = _URL.fullmatch(url)
        if match is None:
            raise DiscoveryError(f"{self.name} reads URLs such as {self.target_form(scheme)}/package.Service/Method")
        if not match["method"]:
            raise DiscoveryError(f"no method: after the service {match['service']} there must be a / and a method")
        if "@" in match["hosts"] or _CREDENTIALS & set(parse_qs(match["query"] or "")):
            raise DiscoveryError("it holds a user, password or token; put them into MicroService.Target")
        return match["target"], match["method"]

    def locate(self, target: str) -> ServiceTarget:
        """Read a target that ``split`` returned, or one of a configuration.

        Raises:
            DiscoveryError: it has not the form that the driver asks for.
        """
        scheme = target.partition("://")[0]
        kind = self.kind(scheme)
        named = self.service_is_host and kind != "dns"
        match = (_NAMED_URL if named else _TARGET).fullmatch(target)
        if match is None or not kind:
            raise DiscoveryError(f"{self.name} reads targets such as {self.target_form(scheme)}")
        hosts = "" if named else match["hosts"].rpartition("@")[2]
        known = _OPTIONS.get(kind, {})
        query = {known[name]: values[0] for name, values in parse_qs(match["query"] or "").items() if name in known}
        if kind == "dns" and hosts:
            raise DiscoveryError("a name server of your own cannot be chosen: write dns:///name:port")
        if kind == "dns":
            try:
                read_endpoint(unquote(match["service"]), "")
            except ValueError as error:
                raise DiscoveryError(f"the name in {scheme}:// has no port: {error}") from None
        return ServiceTarget(
            kind, with_ports(kind, hosts), unquote(match["service"]), self.layout, sorted_options(query)
        )

    def target_form(self, scheme: str) -> str:
        """An example of a target, with this scheme if the driver reads it."""
        known = scheme if self.kind(scheme) else list(self.kinds)[-1]
        kind = self.kind(known)
        if kind == "dns":
            return f"{known}:///name:port"
        if self.service_is_host:
            return f"{known}://service?group=GROUP&clusters=CLUSTER"
        return f"{known}://host:{_PORTS[kind]}/service"

    def _split_named(self, url: str) -> tuple[str, str]:
        match = _NAMED_URL.fullmatch(url)
        if match is None:
            raise DiscoveryError(f"{self.name} reads URLs such as nacos://service/path?group=GROUP&clusters=CLUSTER")
        query = parse_qs(match["query"] or "")
        narrow = "&".join(f"{name}={query[name][0]}" for name in ("group", "clusters") if name in query)
        target = f"{match['scheme']}://{match['service']}" + (f"?{narrow}" if narrow else "")
        return target, (match["method"] or "/") + (f"?{match['query']}" if match["query"] else "")


_NAMES = {"dns": "dns"}
_ETCD = {"etcd": "etcd", "discov": "etcd"}

_DRIVERS = (
    Driver("default", _NAMES),
    Driver("dtm-driver-gozero", _NAMES | _ETCD | {"consul": "consul", "nacos": "nacos"}),
    Driver("dtm-driver-kratos", _NAMES | {"etcd": "etcd", "discovery": "etcd", "consul": "consul"}, "kratos"),
    Driver("dtm-driver-ego", _NAMES | {"etcd": "etcd", "k8s": "dns"}, "ego"),
    Driver("dtm-driver-springcloud", _NAMES, service_is_host=True),
    Driver("dtm-driver-http", _NAMES, service_is_host=True),
)
#: Drivers of DTM that have no registry here, with the schemes they read.
_NOT_YET = {
    "dtm-driver-polaris": ("polaris",),
    "dtm-driver-dapr": ("daprhttp", "daprphttp", "daprgrpc", "daprpgrpc"),
    "dtm-driver-sponge": (),
}


def driver_names() -> tuple[str, ...]:
    """The names of all drivers that can be chosen."""
    return tuple(driver.name for driver in _DRIVERS)


def find_driver(name: str, key: str) -> Driver:
    """The driver of this name; an empty name is ``default``.

    Args:
        name: as configured.
        key: the name of the setting, for the message.

    Raises:
        ConfigError: there is none.
    """
    for driver in _DRIVERS:
        if driver.name == (name or "default"):
            return driver
    offered = ", ".join(driver_names())
    if name in _NOT_YET:
        raise ConfigError(f"{key}: {name} is not supported yet; use one of {offered}")
    close = get_close_matches(name, driver_names(), n=1)
    suggestion = f": did you mean {close[0]}?" if close else ""
    raise ConfigError(f"{key}: there is no driver {name!r}{suggestion or '; use one of ' + offered}")


def unread(scheme: str, chosen: str) -> str:
    """Why no URL with this scheme is read, and what to do about it."""
    for name, schemes in _NOT_YET.items():
        if scheme in schemes:
            return f"{scheme}:// is read by {name}, which is not supported yet"
    others = [driver.name for driver in _DRIVERS if driver.kinds.get(scheme)]
    if others:
        return f"{chosen} does not read {scheme}://; set MicroService.Driver to {' or '.join(others)}"
    meant = get_close_matches(scheme.lower(), ("http", "https"), n=1, cutoff=0.75)
    return f"no discovery driver reads {scheme}://" + (f"; did you mean {meant[0]}://?" if meant else "")


def with_ports(kind: str, hosts: str) -> tuple[str, ...]:
    """The servers of a comma list, each with its port."""
    port = _PORTS.get(kind, 0)
    found = [host.strip() for host in hosts.split(",") if host.strip()]
    return tuple(host if re.search(r":\d+$", host) else f"{host}:{port}" for host in found)
