"""Every setting: its name, type, range, default and meaning, once.

The Python name is the YAML name in snake case. Names, units and defaults of DTM's own settings
are DTM's, so durations are seconds unless the text says otherwise.

The ``extra`` of a setting says more where it is needed: ``ours`` marks a key that DTM does not
have (its bare name is not read from the environment), ``effect`` is a note for a key that is
accepted for DTM's sake but changes nothing here, or nothing yet.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta

from reefknot.config.secret import Secret, SecretUrl
from reefknot.errors import ConfigError

OURS = {"ours": True}
NO_EFFECT = {"effect": "has no effect in Reefknot"}
NOT_YET = {"effect": "has no effect in this version"}

#: Schemes of store URLs that know the options ``max_connections``, ``max_idle`` and ``lifetime``.
_WITH_CONNECTION_LIMITS = frozenset({"postgres", "postgresql", "mysql", "mariadb"})

#: A server that is named with its port.
_WITH_PORT = re.compile(r"\s*(\[.*\]|[^:]+):\d+\s*")

#: Where the embedded store lives unless ``Store.Url`` says otherwise.
EMBEDDED_URL = "sqlite:///reefknot.db"


class Store(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Where transactions are kept."""

    driver: Annotated[
        Literal["sqlite", "boltdb", "memory", "mysql", "postgres", "redis", "sqlserver"],
        Meta(description="`sqlite`, `memory`, `mysql`, `postgres` or `redis`; `boltdb` means `sqlite`"),
    ] = "sqlite"
    url: Annotated[
        SecretUrl,
        Meta(
            description="the store as a URL, for example `sqlite:////var/lib/reefknot/reefknot.db`; "
            "wins over `Store.Driver` and the keys that describe a server",
            extra=OURS,
        ),
    ] = SecretUrl()
    host: Annotated[str, Meta(description="database server; for a Redis cluster `host:port,host:port`")] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="database port, where `Store.Host` does not have it")] = 0
    user: Annotated[str, Meta(description="database user")] = ""
    password: Annotated[Secret, Meta(description="database password")] = Secret()
    db: Annotated[str, Meta(description="database name (mysql, postgres)")] = "dtm"
    schema: Annotated[str, Meta(description="Postgres schema")] = "public"
    max_open_conns: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="most connections of a node to PostgreSQL or MySQL, which opens 10 or 11 unless `connections` "
            "in the URL says otherwise; at least 3 and 5. Redis: no effect, a node has one to each server",
        ),
    ] = 500
    max_idle_conns: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="most connections to PostgreSQL or MySQL that stay open while nobody needs them, besides the "
            "2 or 3 for new transactions, reports and decisions. Redis: no effect",
        ),
    ] = 500
    conn_max_life_time: Annotated[
        int,
        Meta(
            ge=1,
            le=525_600,
            description="minutes after which a connection to PostgreSQL or MySQL is replaced, before its next use. "
            "Redis: no effect",
        ),
    ] = 5
    data_expire: Annotated[
        int,
        Meta(
            description="DTM's name for `Store.FinishedDataExpire` on the embedded store; used if that key is not set, "
            "and on no other store. Unfinished transactions never expire",
        ),
    ] = 604_800
    finished_data_expire: Annotated[
        int, Meta(ge=0, le=3_153_600_000, description="seconds for which finished transactions are kept; 0 = for ever")
    ] = 604_800
    redis_prefix: Annotated[str, Meta(description="start of every Redis key")] = "{a}"

    def location(self) -> SecretUrl:
        """The URL of the store: ``url``, or what the driver and the server's keys come to.

        Raises:
            ConfigError: the driver needs a key that is not set, or is not offered.
        """
        if self.url:
            return self._limited(self.url.reveal())
        if self.driver in ("sqlite", "boltdb"):
            return SecretUrl(EMBEDDED_URL)
        if self.driver == "memory":
            return SecretUrl("memory://")
        if self.driver == "sqlserver":
            raise ConfigError("Store.Driver: sqlserver is not offered; use postgres, mysql, redis or sqlite")
        return self._server_location()

    def _server_location(self) -> SecretUrl:
        # A cluster is a list of servers in the host; each may have a port of its own.
        servers = {server: bool(_WITH_PORT.fullmatch(server)) for server in self.host.split(",")}
        needed = {"Store.Host": self.host, "Store.Port": self.port or all(servers.values())}
        if self.driver != "redis":
            needed |= {"Store.User": self.user, "Store.Db": self.db}
        if self.driver == "postgres":
            needed["Store.Schema"] = self.schema
        if missing := [key for key, value in needed.items() if not value]:
            raise ConfigError(f"Store.Driver: {self.driver} needs {', '.join(missing)} (or set Store.Url)")
        login = quote(self.user, safe="")
        if self.password:
            login += f":{quote(self.password.reveal(), safe='')}"
        address = ",".join(server if has_port else f"{server}:{self.port}" for server, has_port in servers.items())
        rest = {
            "mysql": quote(self.db, safe=""),
            "postgres": f"{quote(self.db, safe='')}?schema={quote(self.schema, safe='')}",
            "redis": f"?prefix={quote(self.redis_prefix, safe='')}",
        }[self.driver]
        return self._limited(f"{self.driver}://{login}{'@' if login else ''}{address}/{rest}")

    def _limited(self, url: str) -> SecretUrl:
        """The URL of a database with the limits of its connections, where they are not the usual ones."""
        address, _, query = url.partition("?")
        if address.partition("://")[0] not in _WITH_CONNECTION_LIMITS:
            return SecretUrl(url)
        usual = Store()
        limits = {
            "max_connections": (self.max_open_conns, usual.max_open_conns),
            "max_idle": (self.max_idle_conns, usual.max_idle_conns),
            "lifetime": (self.conn_max_life_time * 60, usual.conn_max_life_time * 60),
        }
        given = {option.partition("=")[0] for option in query.split("&")}
        added = [
            f"{name}={value}" for name, (value, default) in limits.items() if value != default and name not in given
        ]
        query = "&".join([*([query] if query else []), *added])
        return SecretUrl(f"{address}?{query}" if query else url)


class MicroService(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Service discovery: how the URLs of services are read, and where this server's gRPC API is registered."""

    driver: Annotated[
        str,
        Meta(
            description="how URLs of services are read: `default`, `dtm-driver-gozero`, `dtm-driver-kratos`, "
            "`dtm-driver-ego` or `dtm-driver-springcloud`",
        ),
    ] = "default"
    target: Annotated[
        SecretUrl,
        Meta(description="the registry and the name to register as, such as `etcd://host:2379/dtmservice`"),
    ] = SecretUrl()
    end_point: Annotated[str, Meta(description="our own address, as registered: `host:port`")] = ""


class HttpMicroService(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The same for the HTTP API; DTM reads these keys and never uses them."""

    driver: Annotated[
        str,
        Meta(
            description="a driver of `MicroService.Driver`, or `dtm-driver-http` for a registry given by the next keys"
        ),
    ] = "default"
    registry_type: Annotated[str, Meta(description="kind of registry of `dtm-driver-http`: `nacos`")] = ""
    registry_address: Annotated[str, Meta(description="its servers, `host:port,host:port`")] = ""
    registry_options: Annotated[
        str, Meta(description="how it lets us in, as JSON: `UserName`, `Password`, `NamespaceId`", extra={"json": True})
    ] = "{}"
    target: Annotated[
        SecretUrl,
        Meta(
            description="as `MicroService.Target`; for `dtm-driver-http` as JSON: "
            "`ServiceName`, `GroupName`, `ClusterName`, `Weight`"
        ),
    ] = SecretUrl()
    end_point: Annotated[str, Meta(description="address of our HTTP API, as registered: `host:port`")] = ""


class Log(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Where the log goes."""

    outputs: Annotated[str, Meta(description="comma list of `stderr`, `stdout` and file paths")] = "stderr"
    rotation_enable: Annotated[
        int, Meta(ge=0, le=1, description="1 = rotate log files", extra={"effect": "is left to the system's logrotate"})
    ] = 0
    rotation_config_json: Annotated[
        str, Meta(description="limits of the rotation as JSON", extra={**NO_EFFECT, "json": True})
    ] = msgspec.field(default="{}", name="RotationConfigJSON")


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The server's settings, complete and checked."""

    store: Store = Store()
    micro_service: MicroService = MicroService()
    http_micro_service: HttpMicroService = HttpMicroService()
    log: Log = Log()

    http_host: Annotated[
        str,
        Meta(
            # Nothing would mean every address to the HTTP API and no address to gRPC.
            pattern=".",
            description="address to listen on; the default serves this machine only, `0.0.0.0` all",
            extra=OURS,
        ),
    ] = "127.0.0.1"
    http_port: Annotated[int, Meta(ge=0, le=65535, description="port of the HTTP API; 0 = any free one")] = 36789
    grpc_port: Annotated[int, Meta(ge=0, le=65535, description="port of the gRPC API; 0 = no gRPC")] = 36790
    grpc_host: Annotated[
        str, Meta(description="address of the gRPC API, if it is not that of `HttpHost`", extra=OURS)
    ] = ""
    grpc_cert: Annotated[
        str,
        Meta(
            description="PEM file with the certificate of the gRPC API; without it there is no TLS. "
            "The files are read again when they have changed",
            extra=OURS,
        ),
    ] = ""
    grpc_key: Annotated[str, Meta(description="PEM file with its private key", extra=OURS)] = ""
    grpc_client_ca: Annotated[
        str,
        Meta(
            description="PEM file with the authority of the clients' certificates; if it is set, "
            "a client must have one",
            extra=OURS,
        ),
    ] = ""
    grpc_max_streams: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most gRPC calls at once on one connection", extra=OURS)
    ] = 1000
    json_rpc_port: Annotated[
        int, Meta(ge=0, le=65535, description="unused, also in DTM: JSON-RPC is on the HTTP port", extra=NO_EFFECT)
    ] = 36791
    trans_cron_interval: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            description="DTM: longest pause between two looks for due transactions; here one second",
            extra=NO_EFFECT,
        ),
    ] = 3
    timeout_to_fail: Annotated[
        int, Meta(ge=1, le=31_536_000, description="time limit of msg, tcc and xa that do not bring their own")
    ] = 35
    retry_interval: Annotated[
        int, Meta(ge=1, le=86_400, description="first pause before a branch is called again; doubles each time")
    ] = 10
    retry_interval_max: Annotated[
        int, Meta(ge=1, le=86_400, description="longest pause before a branch is called again", extra=OURS)
    ] = 300
    max_attempts: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="failed visits until a transaction is parked; 0 = never", extra=OURS),
    ] = 0
    request_timeout: Annotated[int, Meta(ge=1, le=86_400, description="time limit of one branch call")] = 3
    update_branch_sync: Annotated[
        int, Meta(ge=0, le=1, description="DTM: 0 = write branch results later; here always durable", extra=NO_EFFECT)
    ] = 1
    update_branch_async_goroutine_num: Annotated[
        int, Meta(ge=1, le=10_000, description="DTM: number of late writers", extra=NO_EFFECT)
    ] = 1
    log_level: Annotated[
        Literal["debug", "info", "warn", "error"], Meta(description="`debug`, `info`, `warn` or `error`")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="`console`, `json`, or `auto`: console on a terminal, else JSON", extra=OURS),
    ] = "auto"
    is_docker: Annotated[
        str,
        Meta(description="not empty: a branch on `localhost` or `127.0.0.1` is called on `host.docker.internal`"),
    ] = ""
    time_zone_offset: Annotated[
        str, Meta(pattern=r"^([+-]?\d{1,2})?$", description="hours east of UTC, such as `+8`", extra=NO_EFFECT)
    ] = ""
    config_update_interval: Annotated[
        int, Meta(ge=1, le=86_400, description="how old the known subscribers of a topic may be")
    ] = 3
    alert_retry_limit: Annotated[
        int, Meta(ge=1, le=1_000_000, description="number of tries after which the web hook is called")
    ] = 3
    alert_web_hook: Annotated[Secret, Meta(description="URL that is told about transactions in trouble")] = Secret()
    alert_web_hook_secret: Annotated[
        Secret, Meta(description="key with which calls of the web hook are signed", extra=OURS)
    ] = Secret()
    admin_base_path: Annotated[
        str, Meta(pattern=r"^(/.*)?$", description="path before the operator's pages", extra=NOT_YET)
    ] = ""
    grpc_service_config: Annotated[
        str, Meta(description="service config of the gRPC channels to branches, as JSON", extra={"json": True})
    ] = '{"loadBalancingConfig": [{"round_robin":{}}]}'

    lease_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="how long a dead server's transactions stay its own", extra=OURS)
    ] = 8
    live_transactions: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most submitted transactions driven at once", extra=OURS)
    ] = 1024
    recovery_transactions: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most due transactions driven at once", extra=OURS)
    ] = 256
    host_concurrency: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most calls to one participant host at once", extra=OURS)
    ] = 256
    response_limit: Annotated[
        int, Meta(ge=1024, le=1 << 30, description="most bytes read of a participant's answer", extra=OURS)
    ] = 262_144
    body_limit: Annotated[
        int, Meta(ge=1024, le=1 << 30, description="most bytes of a request to the API", extra=OURS)
    ] = 4_194_304
    max_steps: Annotated[int, Meta(ge=1, le=100_000, description="most steps of one transaction", extra=OURS)] = 1000
    wait_result_timeout: Annotated[
        int, Meta(ge=1, le=86_400, description="longest wait of a submit with `wait_result`", extra=OURS)
    ] = 30
    result_matching: Annotated[
        Literal["exact", "substring"],
        Meta(description="how a branch's answer is read; `substring` is DTM's rule", extra=OURS),
    ] = "exact"
    purge_interval: Annotated[
        int, Meta(ge=1, le=86_400, description="pause between two removals of old transactions", extra=OURS)
    ] = 60
    workers: Annotated[
        int,
        Meta(ge=1, le=256, description="node processes on one port; more than 1 needs a database server", extra=OURS),
    ] = 1
    require_durability: Annotated[
        Literal["", "full"],
        Meta(description="`full`: refuse to start on a store that can lose what it acknowledged", extra=OURS),
    ] = ""
    shutdown_timeout: Annotated[
        int, Meta(ge=1, le=3600, description="longest wait for running work when the server stops", extra=OURS)
    ] = 10
