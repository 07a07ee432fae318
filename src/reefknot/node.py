"""One node: every part of a transaction manager, put together over a store.

With ``app.py`` this is the composition root; nothing else may build the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from reefknot import __version__, callers
from reefknot.api.http import HttpApi
from reefknot.api.jsonrpc import JsonRpcApi
from reefknot.api.lookups import Lookups
from reefknot.callers.base import CallerSettings
from reefknot.callers.client import BranchClient
from reefknot.callers.connection import ExchangeFailed
from reefknot.callers.resolve import ServiceDiscovery, read_settings
from reefknot.callers.target import Targets
from reefknot.clock import Clock
from reefknot.config import Config
from reefknot.coordinator.alerts import Alerts
from reefknot.coordinator.coordinator import Coordinator
from reefknot.coordinator.driving import Driving
from reefknot.coordinator.hosts import Hosts
from reefknot.coordinator.intake import Intake
from reefknot.coordinator.leases import Leases
from reefknot.coordinator.poller import Poller
from reefknot.coordinator.runner import Runner
from reefknot.coordinator.settings import Settings
from reefknot.coordinator.tasks import Tasks, repeat
from reefknot.coordinator.topics import Topics
from reefknot.coordinator.waiting import Waiting
from reefknot.coordinator.watching import Watching
from reefknot.durability import LOOK_SECONDS, DurabilityWatch
from reefknot.engine.admission import Limits
from reefknot.engine.registry import discover
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.ids import gid_maker
from reefknot.metrics import Metrics
from reefknot.registration import Registrations
from reefknot.store.base import Store
from reefknot.wire.outcome import Matching

if TYPE_CHECKING:
    from reefknot.api.grpc_server import GrpcServer

_log = logging.getLogger(__name__)

#: How long a scrape waits for the store: the series of the process are needed most when it is away.
STATS_SECONDS = 3.0
#: Time limit of one delivery of an alert.
ALERT_SECONDS = 5.0
#: A claim that is under way at a stop may always take so long.
CLAIM_SECONDS = 2.0

#: The purge waits so many times as long as its last batch took: a tenth of the time is its own, and a store that
#: is busy with others, and so takes longer, is asked less often. With 4 the clients of a machine that others kept
#: busy lost a quarter of their rate (PostgreSQL, each of four pairs of loads without and with the purge).
PURGE_PAUSES = 9.0
#: A purge that has not come to its end after so many seconds pauses half as long, after twice that a third, and so on:
#: where more is finished than a tenth of the time can delete, the store must not grow for ever.
PURGE_HASTE_SECONDS = 300.0


def purge_pauses(seconds: float) -> float:
    """How many times as long as its last batch a purge waits, so many seconds after it began."""
    return PURGE_PAUSES / (1 + seconds / PURGE_HASTE_SECONDS)


def settings_of(config: Config) -> Settings:
    """The coordinator's numbers in a Config."""
    return Settings(
        timeout_seconds=config.timeout_to_fail,
        retry_seconds=config.retry_interval,
        retry_max_seconds=config.retry_interval_max,
        max_attempts=config.max_attempts,
        request_timeout_seconds=config.request_timeout,
        wait_seconds=config.wait_result_timeout,
        lease_seconds=float(config.lease_seconds),
        lease_margin_seconds=config.lease_seconds / 8,
        renew_seconds=config.lease_seconds * 0.3,
        live_transactions=config.live_transactions,
        recovery_transactions=config.recovery_transactions,
        host_calls=config.host_concurrency,
        topic_refresh_seconds=float(config.config_update_interval),
        alert_after_attempts=config.alert_retry_limit,
        finished_keep_seconds=config.store.finished_data_expire,
        purge_seconds=float(config.purge_interval),
        drain_seconds=float(config.shutdown_timeout),
    )


class Node:
    """One transaction manager over a store: its coordinator, recovery and periodic work.

    Several nodes may share a store. ``start`` begins the background work; ``stop`` drains it and
    releases every lease, so that other nodes need not wait for them to expire.

    Args:
        settings: the coordinator's numbers, if they are not those of the Config.
        branch_callers: calls branches, if it is not every installed caller.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        clock: Clock,
        failpoints: Failpoints,
        rng: random.Random,
        owner: str,
        settings: Settings | None = None,
        branch_callers: callers.Callers | None = None,
    ) -> None:
        settings, limits = settings or settings_of(config), Limits(steps=config.max_steps)
        new_gid = gid_maker(clock, rng.getrandbits)
        self._config = config
        self._store, self._clock, self._settings = store, clock, settings
        self._fail = failpoints
        self._random = rng.random
        self._modes = discover()
        self._waiting = Waiting()
        self.watching = Watching(store, self._waiting)
        self._background: list[asyncio.Task[None]] = []
        self.owner = owner
        self.metrics = Metrics(__version__, self._modes, store.now_ms)
        self.tasks = Tasks(self.metrics)
        self.durability = DurabilityWatch(store, self.metrics)
        services = read_settings(config)
        self.discovery = ServiceDiscovery(services, clock=clock, spawn=self.tasks.spawn, make_id=new_gid)
        self.registrations = Registrations(services, clock, new_gid)
        self.callers = branch_callers or callers.discover(_caller_settings(config, new_gid, self.discovery))
        self._alert_client = BranchClient(_caller_settings(config, new_gid, self.discovery))
        self._alerts = Alerts(
            config.alert_web_hook.reveal(),
            config.alert_web_hook_secret.reveal(),
            self._post_alert,
            clock,
            self.metrics,
        )
        self.topics = Topics(store, self.callers, limits, failpoints)
        self.hosts = Hosts(settings.host_calls, self._wake)
        self.leases = Leases(store, clock, settings, owner, failpoints)
        self.driving = self._make_driving()
        self.poller = self._make_poller()
        self.coordinator = Coordinator(
            modes=self._modes,
            store=store,
            callers=self.callers,
            intake=Intake(store, self.callers, self.topics, settings, limits),
            driving=self.driving,
            topics=self.topics,
            waiting=self._waiting,
            watching=self.watching,
            settings=settings,
            limits=limits,
            new_gid=new_gid,
            kick=self.poller.kick,
            failpoints=failpoints,
        )
        lookups = Lookups(self.coordinator, 3 * settings.timeout_seconds)
        self.api = HttpApi(
            self.coordinator,
            version=self._version,
            metrics=self._metrics_text,
            jsonrpc=JsonRpcApi(self.coordinator, lookups, clock, self.metrics),
            lookups=lookups,
            body_limit=config.body_limit,
            clock=clock,
            observer=self.metrics,
            failpoints=failpoints,
        )

    def grpc_server(self, port: int, *, share: bool = False) -> GrpcServer:
        """The gRPC API on a port, to be started. Without it grpcio is not even imported.

        Args:
            port: where to listen; the other settings are the Config's.
            share: whether other processes that also share may listen there.

        Raises:
            ConfigError: grpcio is not installed, the port is taken, or a certificate cannot be used.
        """
        try:
            from reefknot.api import grpc_server  # noqa: PLC0415 - a tenth of a second that a server without it saves
        except ImportError as error:
            raise ConfigError(
                f"GrpcPort: gRPC needs a package that is not installed ({error.name}); "
                "pip install 'reefknot[grpc]', or set GrpcPort to 0"
            ) from error
        config = self._config
        settings = grpc_server.GrpcSettings(
            host=config.grpc_host or config.http_host,
            port=port,
            share=share,
            message_bytes=config.body_limit,
            streams=config.grpc_max_streams,
            certificate=config.grpc_cert,
            key=config.grpc_key,
            client_authority=config.grpc_client_ca,
        )
        calls = grpc_server.Calls(self._clock, self.metrics, self._fail)
        return grpc_server.GrpcServer(settings, calls, self.coordinator, 3 * self._settings.timeout_seconds)

    def _make_driving(self) -> Driving:
        runner = Runner(
            store=self._store,
            callers=self.callers,
            hosts=self.hosts,
            leases=self.leases,
            alerts=self._alerts,
            clock=self._clock,
            settings=self._settings,
            owner=self.owner,
            random=self._random,
            observer=self.metrics,
            failpoints=self._fail,
        )
        return Driving(
            modes=self._modes,
            store=self._store,
            runner=runner,
            leases=self.leases,
            waiting=self._waiting,
            settings=self._settings,
            owner=self.owner,
            spawn=self.tasks.spawn,
            failpoints=self._fail,
        )

    def _make_poller(self) -> Poller:
        return Poller(
            store=self._store,
            leases=self.leases,
            drive=self.driving.recover,
            spawn=self.tasks.spawn,
            clock=self._clock,
            settings=self._settings,
            owner=self.owner,
            random=self._random,
            observer=self.metrics,
            failpoints=self._fail,
        )

    async def start(self, *, poll: bool = True) -> None:
        """Load the topics and begin the background work.

        Args:
            poll: whether this node looks for due transactions by itself.
        """
        await self.topics.refresh()
        await self.durability.look()
        spawn, clock, settings = self.tasks.spawn, self._clock, self._settings
        work = [
            spawn(repeat(clock, settings.renew_seconds, self.leases.renew, "renew leases"), "renew"),
            spawn(repeat(clock, settings.topic_refresh_seconds, self.topics.refresh, "refresh topics"), "topics"),
            spawn(repeat(clock, LOOK_SECONDS, self.durability.look, "durability"), "durability"),
            spawn(self._alerts.run(), "alerts"),
        ]
        if settings.finished_keep_seconds:
            work.append(spawn(repeat(clock, settings.purge_seconds, self._purge, "purge"), "purge"))
        if poll:
            work.append(spawn(self.poller.run(), "poller"))
        self._background = work

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Finish what is being driven, as far as the drain time allows; release every lease.

        Args:
            drain_seconds: how long drives may take to finish; the setting if it is not given.
        """
        drain = self._settings.drain_seconds if drain_seconds is None else drain_seconds
        until = asyncio.get_running_loop().time() + drain
        self.poller.stop()
        polling = [task for task in self._background if task.get_name() == "poller"]
        for task in self._background:
            if task.get_name() not in ("poller", "renew"):
                task.cancel()
        if polling:
            # A claim that is cut off may be committed after the release, and then its leases would have to expire.
            await asyncio.wait(polling, timeout=max(drain, CLAIM_SECONDS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                # An event would cost every drive something, for one stop.
                while len(self.leases) or self.poller.active:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await self.leases.stop_all()
        await self.tasks.cancel_all()
        if self._fail.armed:
            await self._fail.hit("shutdown.before_release")
        with contextlib.suppress(StoreUnavailable):
            await self._store.release(self.owner)
        if self._fail.armed:
            await self._fail.hit("shutdown.released")
        await self.callers.close()
        await self._alert_client.close()
        await self.discovery.close()

    def _wake(self, gids: tuple[str, ...]) -> None:
        """A participant answers again: make what waited for it due."""
        _ = self.tasks.spawn(self._wake_now(gids), "wake")

    async def _wake_now(self, gids: tuple[str, ...]) -> None:
        await self._store.wake(gids)
        self.poller.kick()

    async def _purge(self) -> None:
        """Delete finished transactions that are old enough, in small batches."""
        older_than_ms = self._settings.finished_keep_seconds * 1000
        size = deleted = self._settings.purge_batch
        first = self._clock.monotonic()
        while deleted == size:
            began = self._clock.monotonic()
            deleted = await self._store.purge(older_than_ms, size)
            self.metrics.transactions_purged(deleted)
            ended = self._clock.monotonic()
            await self._clock.sleep(purge_pauses(ended - first) * (ended - began))

    async def _post_alert(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        target = Targets().get(url)
        if target.problem:
            _log.error("AlertWebHook cannot be called", extra={"problem": target.problem})
            return False
        try:
            answer = await self._alert_client.send("POST", target, target.path, headers, body, ALERT_SECONDS)
        except ExchangeFailed:
            return False
        return 200 <= answer.status < 300

    async def _version(self) -> dict[str, object]:
        return {
            "version": __version__,
            "durability": self.durability.known.level,
            "durability_detail": self.durability.known.detail,
            "store": self._store.name,
        }

    async def _metrics_text(self) -> bytes:
        """Everything this process counts; what the store counts only if it answers soon."""
        stats = None
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(STATS_SECONDS):
                stats = await self._store.stats()
        return self.metrics.text(stats)


def _caller_settings(config: Config, make_id: Callable[[], str], discovery: ServiceDiscovery) -> CallerSettings:
    return CallerSettings(
        make_id=make_id,
        response_limit_bytes=config.response_limit,
        connections_per_host=config.host_concurrency,
        matching=Matching(config.result_matching),
        user_agent=f"reefknot/{__version__}",
        local_host="host.docker.internal" if config.is_docker else "",
        discovery=discovery,
        grpc_service_config=config.grpc_service_config,
    )
