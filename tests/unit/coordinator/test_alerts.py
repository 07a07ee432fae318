"""The web hook: delivered beside the work, repeated, signed, not twice."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json

import pytest

from reefknot.coordinator.alerts import ATTEMPTS, QUEUE_MOST, SIGNATURE_HEADER, Alerts
from reefknot.observe import Observer
from reefknot.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


class Hook:
    """Receives deliveries; refuses the first few."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse
        self.received: list[tuple[str, bytes, dict[str, str]]] = []

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        self.received.append((url, body, headers))
        self.refuse -= 1
        return self.refuse < 0


class Dropped(Observer):
    def __init__(self) -> None:
        self.count = 0

    def alert_dropped(self) -> None:
        self.count += 1


async def delivered(hook: Hook, alerts: Alerts, clock: ManualClock, count: int) -> None:
    task = asyncio.create_task(alerts.run())
    for _ in range(200):
        await asyncio.sleep(0)
        if len(hook.received) >= count:
            break
        await clock.advance(1)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_body_has_the_five_keys_of_dtm() -> None:
    hook, clock = Hook(), ManualClock()
    alerts = Alerts("http://hook/", "", hook.post, clock, Observer())
    alerts.raised("g", "submitted", "http://b/", "boom", 3)

    await delivered(hook, alerts, clock, 1)

    url, body, headers = hook.received[0]
    assert url == "http://hook/"
    assert json.loads(body) == {
        "gid": "g",
        "status": "submitted",
        "branch": "http://b/",
        "error": "boom",
        "retry_count": 3,
    }
    assert SIGNATURE_HEADER not in headers


async def test_a_secret_signs_the_body() -> None:
    hook, clock = Hook(), ManualClock()
    alerts = Alerts("http://hook/", "key", hook.post, clock, Observer())
    alerts.raised("g", "aborting", "", "boom", 4)

    await delivered(hook, alerts, clock, 1)

    _, body, headers = hook.received[0]
    assert headers[SIGNATURE_HEADER] == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()


async def test_a_refused_delivery_is_repeated_and_then_counted_as_dropped() -> None:
    hook, clock, dropped = Hook(refuse=ATTEMPTS), ManualClock(), Dropped()
    alerts = Alerts("http://hook/", "", hook.post, clock, dropped)
    alerts.raised("g", "submitted", "", "boom", 3)
    alerts.raised("h", "submitted", "", "boom", 3)

    await delivered(hook, alerts, clock, ATTEMPTS + 1)

    assert [json.loads(body)["gid"] for _, body, _ in hook.received] == ["g"] * ATTEMPTS + ["h"]
    assert dropped.count == 1


async def test_the_same_alert_is_not_queued_twice_and_a_full_queue_drops() -> None:
    hook, clock, dropped = Hook(), ManualClock(), Dropped()
    alerts = Alerts("http://hook/", "", hook.post, clock, dropped)
    alerts.raised("g", "submitted", "", "boom", 3)
    alerts.raised("g", "submitted", "", "boom", 3)

    await delivered(hook, alerts, clock, 2)
    for number in range(QUEUE_MOST + 2):
        alerts.raised(f"g{number}", "submitted", "", "boom", 3)

    assert len(hook.received) == 1
    assert dropped.count == 2


async def test_without_a_url_nothing_is_queued() -> None:
    hook, clock, dropped = Hook(), ManualClock(), Dropped()
    alerts = Alerts("", "", hook.post, clock, dropped)
    for number in range(QUEUE_MOST + 1):
        alerts.raised(f"g{number}", "submitted", "", "boom", 3)

    await delivered(hook, alerts, clock, 1)

    assert hook.received == []
    assert dropped.count == 0
