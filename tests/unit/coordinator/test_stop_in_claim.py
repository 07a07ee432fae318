"""The server stops while the store carries out a claim: what that takes must not wait until its leases end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any, Protocol

import asyncmy
import asyncpg
import pytest

from reefknot.clock import SystemClock
from reefknot.config import Config
from reefknot.coordinator.leases import Leases
from reefknot.coordinator.poller import Poller
from reefknot.coordinator.tasks import Tasks
from reefknot.failpoints import disarmed
from reefknot.metrics import Metrics
from reefknot.node import settings_of
from reefknot.store import open_store
from reefknot.store.base import Claimed, Store
from reefknot.store.mysql.location import parse_url
from reefknot.testing.conformance.store.building import create, due
from reefknot.testing.participant import ONGOING, Participant
from reefknot.testing.server import PATIENCE_SECONDS, LocalServer

#: As long as the stop may take that does not wait for the claim.
MOMENT_SECONDS = 1.0


class Database(Protocol):
    """A database in which whoever takes a transaction over waits for a lock."""

    url: str

    async def hold(self) -> None:
        """Let every claim wait from now on."""

    async def let_go(self) -> None:
        """Let them go on."""

    async def waiting(self) -> int:
        """How many claims wait."""
        ...

    async def owner(self) -> str:
        """Who has the only transaction, once all that change it have committed."""
        ...

    async def close(self) -> None:
        """Close the connection."""


class Postgres:
    """PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}?timeout=60"
        self._dsn = url.replace("postgres://", "postgresql://")
        self._admin: Any = None

    async def hold(self) -> None:
        self._admin = await asyncpg.connect(self._dsn)
        await self._admin.execute(
            """
            SELECT pg_advisory_lock(7);
            CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
            CREATE TRIGGER hold BEFORE UPDATE ON public.reefknot_tx FOR EACH ROW
            WHEN (OLD.owner = '' AND NEW.owner <> '') EXECUTE FUNCTION hold();
            """
        )

    async def let_go(self) -> None:
        await self._admin.execute("SELECT pg_advisory_unlock(7)")

    async def waiting(self) -> int:
        return int(
            await self._admin.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )

    async def owner(self) -> str:
        return str(await self._admin.fetchval("SELECT owner FROM public.reefknot_tx FOR UPDATE"))

    async def close(self) -> None:
        await self._admin.close()


class MySql:
    """MySQL or MariaDB."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}?timeout=60"
        self._where = parse_url(url)
        self._lock = self._where.database
        self._admin: Any = None
        self._cursor: Any = None

    async def hold(self) -> None:
        where = self._where
        self._admin = await asyncmy.connect(
            host=where.host,
            port=where.port,
            user=where.user,
            password=where.password,
            database=where.database,
            autocommit=True,
        )
        self._cursor = self._admin.cursor()
        await self._ask("SELECT GET_LOCK(%s, 0)", self._lock)
        await self._cursor.execute(
            "CREATE TRIGGER hold BEFORE UPDATE ON reefknot_tx FOR EACH ROW BEGIN"
            f" IF OLD.owner = '' AND NEW.owner <> '' THEN DO GET_LOCK('{self._lock}', 60);"
            f" DO RELEASE_LOCK('{self._lock}'); END IF; END"
        )

    async def let_go(self) -> None:
        await self._ask("SELECT RELEASE_LOCK(%s)", self._lock)

    async def waiting(self) -> int:
        text = "SELECT count(*) FROM information_schema.processlist WHERE db = %s AND state = 'User lock'"
        return int(await self._ask(text, self._where.database))

    async def owner(self) -> str:
        found: bytes = await self._ask("SELECT owner FROM reefknot_tx FOR UPDATE")
        return found.decode()

    async def close(self) -> None:
        await self._admin.ensure_closed()

    async def _ask(self, text: str, *values: object) -> Any:
        await self._cursor.execute(text, values)
        return (await self._cursor.fetchone())[0]


@pytest.fixture(params=[("postgres", Postgres), ("mariadb", MySql)], ids=["postgres", "mysql"])
def database(request: pytest.FixtureRequest) -> Database:
    fixture, kind = request.param
    server = request.getfixturevalue(fixture)
    found: Database = kind(server.create_database(f"test_{secrets.token_hex(6)}"))
    return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def test_a_claim_that_is_under_way_leaves_no_lease_behind(database: Database) -> None:
    with Participant() as participant, LocalServer(database.url, poll=True, shutdown_timeout=60) as server:
        participant.script("/act", [ONGOING])
        step = {"action": participant.url("/act"), "compensate": participant.url("/undo")}
        server.post("submit", {"gid": "due", "trans_type": "saga", "steps": [step], "payloads": ["{}"]})
        wait_until(lambda: len(participant.calls) == 1, "it was called")
        server.settle()
        server.run(database.hold())
        server.run(server.store.wake(("due",)))
        wait_until(lambda: server.run(database.waiting()) == 1, "it is being claimed")

        stopping = asyncio.run_coroutine_threadsafe(server.node.stop(), server._loop)
        wait([stopping], timeout=MOMENT_SECONDS)
        server.run(database.let_go())
        stopping.result(PATIENCE_SECONDS)

        wait_until(lambda: server.run(database.waiting()) == 0, "it was claimed")
        owner = server.run(database.owner())
        server.run(database.close())
        assert (owner, server.status("due")) == ("", "succeed")


class Endless(SystemClock):
    """Nobody who sleeps wakes up."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


class Polling:
    """A poller over a store with one due transaction, and what it did."""

    def __init__(self, store: Store) -> None:
        self.did: list[str] = []
        #: Claims wait for this.
        self.may_claim = asyncio.Event()
        self._claim = store.claim
        store.claim = self.claim  # type: ignore[method-assign]  # the real one is called by this one
        clock, settings, metrics = Endless(), settings_of(Config()), Metrics("", (), store.now_ms)
        self.poller = Poller(
            store=store,
            leases=Leases(store, clock, settings, "n", disarmed()),
            drive=self.drive,
            spawn=Tasks(metrics).spawn,
            clock=clock,
            settings=settings,
            owner="n",
            random=lambda: 0.5,
            observer=metrics,
            failpoints=disarmed(),
        )

    async def claim(self, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        self.did.append("claim")
        await self.may_claim.wait()
        return await self._claim(owner, limit, lease_ms)

    async def drive(self, claimed: Claimed, deadline: float) -> None:
        self.did.append(claimed.record.gid)

    async def until(self, did: list[str]) -> None:
        while self.did != did or self.poller.active:
            await asyncio.sleep(0)


@pytest.mark.parametrize("during", ["claim", "pause"])
def test_the_poller_ends_its_round_and_not_more(during: str) -> None:
    async def run() -> list[str]:
        store = await open_store("memory://", clock=SystemClock(), failpoints=disarmed())
        await create(store, due("a"))
        polling = Polling(store)
        async with asyncio.timeout(PATIENCE_SECONDS):
            running = asyncio.create_task(polling.poller.run())
            await polling.until(["claim"])
            if during == "pause":
                polling.may_claim.set()
                await polling.until(["claim", "a"])
            polling.poller.stop()
            polling.may_claim.set()
            await running
            await polling.until(["claim", "a"])
        await store.close()
        return polling.did

    assert asyncio.run(run()) == ["claim", "a"]
