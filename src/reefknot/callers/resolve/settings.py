"""What an operator says about registries: where they are, how to get in, and what to register there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

import msgspec

from reefknot.callers.base import DiscoveryError
from reefknot.callers.resolve.base import GRPC, HTTP, Access, Endpoint, ServiceTarget, read_endpoint, sorted_options
from reefknot.callers.resolve.drivers import Driver, find_driver, with_ports
from reefknot.callers.resolve.http import tls_context
from reefknot.config import Config, HttpMicroService, Secret
from reefknot.errors import ConfigError

_NO_ACCESS = Access()


class Configured(NamedTuple):
    """One section of the configuration, read.

    Attributes:
        driver: reads the URLs.
        target: the service to register as, and the registry; None if nothing is configured.
        access: how that registry lets us in.
        endpoint: our own address; None if we do not register.
    """

    driver: Driver
    target: ServiceTarget | None = None
    access: Access = _NO_ACCESS
    endpoint: Endpoint | None = None


def read_settings(config: Config) -> tuple[Configured, ...]:
    """The sections ``MicroService`` and ``HttpMicroService``; what is at its defaults is left out, but not both.

    Raises:
        ConfigError: a key is wrong.
    """
    micro, http = config.micro_service, config.http_micro_service
    grpc_section = _section("MicroService", micro.driver, micro.target.reveal(), micro.end_point, GRPC)
    if find_driver(http.driver, "HttpMicroService.Driver").name == "dtm-driver-http":
        return (grpc_section, _nacos_over_http(http))
    http_section = _section("HttpMicroService", http.driver, http.target.reveal(), http.end_point, HTTP)
    return (grpc_section,) if http_section.driver.name == "default" else (grpc_section, http_section)


def _section(name: str, driver_name: str, target: str, end_point: str, scheme: str) -> Configured:
    driver = find_driver(driver_name, f"{name}.Driver")
    if not target or driver.name == "default":
        return Configured(driver)
    if driver.service_is_host:
        return _spring_cloud(name, driver, target, end_point)
    plain, _, query = target.partition("?")
    parameters = {key: values[0] for key, values in parse_qs(query).items()}
    user, password = _login(plain, parameters)
    try:
        located = driver.locate(target)
    except DiscoveryError as error:
        raise ConfigError(f"{name}.Target: {error}") from None
    if located.kind != "dns" and not located.hosts:
        example = driver.target_form(target.partition("://")[0])
        raise ConfigError(f"{name}.Target: it names no servers of the registry, as {example} does")
    access = Access(
        user=user,
        password=Secret(password),
        token=Secret(parameters.get("token", "")),
        namespace=located.option("namespace"),
        tls=_is_true(parameters, "tls", "enableSecure") or bool(_first(parameters, "caPath", "caCert")),
        ca_file=_first(parameters, "caPath", "caCert"),
        certificate_file=_first(parameters, "certPath", "certFile"),
        key_file=_first(parameters, "certKeyPath", "keyFile"),
    )
    if access.tls:
        try:
            tls_context(access)
        except OSError as error:
            raise ConfigError(f"{name}.Target: TLS cannot be used: {error}") from None
    endpoint = None if located.kind == "dns" else _endpoint(name, end_point, scheme)
    return Configured(driver, located, access, endpoint)


def _spring_cloud(name: str, driver: Driver, text: str, end_point: str) -> Configured:
    """DTM's spring cloud driver: the target is JSON with ``Type``, ``Addr``, ``ClientConfig``, ``InstanceConfig``."""
    fields = _json_object(f"{name}.Target", text)
    if (kind := str(fields.get("type", ""))) != "nacos":
        raise ConfigError(f"{name}.Target: Type is {kind!r}, and {driver.name} offers nacos only")
    client, instance = _inner(fields, "clientconfig"), _inner(fields, "instanceconfig")
    return _nacos(name, driver, str(fields.get("addr", "")), client, instance, end_point)


def _nacos_over_http(section: HttpMicroService) -> Configured:
    """DTM's own section for HTTP: a registry type, its address, and two JSON objects."""
    name = "HttpMicroService"
    driver = find_driver(section.driver, f"{name}.Driver")
    if section.registry_type != "nacos":
        raise ConfigError(f"{name}.RegistryType: {section.registry_type!r} is not offered; use nacos")
    client = _json_object(f"{name}.RegistryOptions", section.registry_options)
    instance = _json_object(f"{name}.Target", section.target.reveal() or "{}")
    return _nacos(name, driver, section.registry_address, client, instance, section.end_point)


def _nacos(
    name: str, driver: Driver, hosts: str, client: Mapping[str, Any], instance: Mapping[str, Any], end_point: str
) -> Configured:
    if not hosts:
        raise ConfigError(f"{name}: no address of the nacos server, as in 127.0.0.1:8848")
    namespace = str(client.get("namespaceid", ""))
    options = {
        "namespace": namespace,
        "group": str(instance.get("groupname", "")),
        "clusters": str(instance.get("clustername", "")),
        "weight": str(instance.get("weight", "") or ""),
    }
    service = str(instance.get("servicename", ""))
    access = Access(
        user=str(client.get("username", "")),
        password=Secret(str(client.get("password", ""))),
        namespace=namespace,
    )
    target = ServiceTarget("nacos", with_ports("nacos", hosts), service, driver.layout, sorted_options(options))
    return Configured(driver, target, access, _endpoint(name, end_point, HTTP) if service else None)


def _endpoint(name: str, text: str, scheme: str) -> Endpoint:
    if not text:
        raise ConfigError(f"{name}.EndPoint: needed with {name}.Target: our own address as host:port")
    try:
        return read_endpoint(text, scheme)
    except ValueError as error:
        raise ConfigError(f"{name}.EndPoint: {error}") from None


def _login(target: str, parameters: Mapping[str, str]) -> tuple[str, str]:
    """User and password of a target, before its servers or in its query."""
    authority = target.partition("://")[2].partition("/")[0]
    login, at, _ = authority.rpartition("@")
    user, _, password = login.partition(":") if at else ("", "", "")
    return unquote(user) or _first(parameters, "user", "userName"), unquote(password) or parameters.get("password", "")


def _first(parameters: Mapping[str, str], *names: str) -> str:
    return next((parameters[name] for name in names if parameters.get(name)), "")


def _is_true(parameters: Mapping[str, str], *names: str) -> bool:
    return _first(parameters, *names).lower() in ("1", "t", "true")


def _json_object(key: str, text: str) -> dict[str, Any]:
    """A JSON object whose names count whatever their case is, as in Go."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise ConfigError(f"{key}: expected a JSON object") from None
    return {name.lower(): value for name, value in found.items()}


def _inner(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return {str(key).lower(): inner for key, inner in value.items()} if isinstance(value, dict) else {}
