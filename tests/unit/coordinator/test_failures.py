"""The log says which calls fail and why, and is not drowned by it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from reefknot.coordinator.drive import Drive
from reefknot.coordinator.failures import INTERVAL_SECONDS, LINES_MOST, Failures
from reefknot.engine.commands import Call
from reefknot.engine.modes.saga import mode as saga
from reefknot.model import Body, Snapshot, Status, Transaction, Unknown
from reefknot.testing.clock import ManualClock
from reefknot.testing.participant import ERROR, FAILURE, OK, ONGOING, Participant, Say
from reefknot.testing.server import LocalServer


def submit(server: LocalServer, gid: str, url: str, **options: object) -> None:
    fields = {"gid": gid, "trans_type": "saga", "steps": [{"action": url}], "payloads": ["secret"], **options}
    assert server.post("submit", fields).status == 200


def told(caplog: pytest.LogCaptureFixture, event: str = "call failed") -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == event]


def test_a_call_is_told_at_its_first_failure_and_when_its_tries_have_doubled(caplog: pytest.LogCaptureFixture) -> None:
    with Participant() as participant, LocalServer() as server:
        participant.always("/a", ERROR)
        submit(server, "stuck", participant.url("/a?token=hidden"))
        for _ in range(7):
            server.cron(plus=400, look_ahead=0)
        server.settle()
        now = datetime.fromtimestamp(server.clock.now_ms() / 1000, UTC)

    lines = told(caplog)
    assert [line.tries for line in lines] == [1, 2, 4, 8]  # type: ignore[attr-defined]
    shown = vars(lines[-1])
    assert (shown["levelname"], shown["gid"], shown["branch_id"], shown["op"]) == ("WARNING", "stuck", "01", "action")
    assert shown["url"] == participant.url("/a")
    assert shown["error"] == "HTTP status 500: internal server error"
    assert datetime.fromisoformat(shown["next_try"]) > now
    written = " ".join(str(vars(line)) for line in caplog.records)
    assert not [secret for secret in ("hidden", "secret") if secret in written]


def test_what_is_no_trouble_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with Participant() as participant, LocalServer() as server:
        participant.always("/later", ONGOING)
        participant.always("/no", FAILURE)
        for path in ("/fine", "/later", "/no"):
            submit(server, path[1:], participant.url(path))
        server.settle()
        server.cron(plus=30, look_ahead=0)
        assert [server.status(gid) for gid in ("fine", "later", "no")] == ["succeed", "submitted", "failed"]
    assert told(caplog) == []


def test_a_failure_after_an_ongoing_answer_is_a_first_one(caplog: pytest.LogCaptureFixture) -> None:
    with Participant() as participant, LocalServer() as server:
        participant.script("/a", [ONGOING, ONGOING, ERROR, OK])
        submit(server, "g", participant.url("/a"))
        for _ in range(3):
            server.cron(plus=30, look_ahead=0)
        assert server.status("g") == "succeed"
    assert [line.tries for line in told(caplog)] == [3]  # type: ignore[attr-defined]


def test_tries_within_one_visit_are_told_when_they_have_doubled(caplog: pytest.LogCaptureFixture) -> None:
    with Participant() as participant, LocalServer() as server:
        participant.always("/a", ERROR)
        submit(server, "g", participant.url("/a"), retry_limit=4)
        server.wait_for("g", "failed")
    assert [line.tries for line in told(caplog)] == [1, 2, 4]  # type: ignore[attr-defined]


def test_the_check_back_of_a_message_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with Participant() as participant, LocalServer() as server:
        participant.always("/ask", Say(404, b"gone"))
        fields = {"gid": "asked", "trans_type": "msg", "query_prepared": participant.url("/ask"), "timeout_to_fail": 5}
        server.post("prepare", {**fields, "steps": [{"action": participant.url("/a")}], "payloads": [""]})
        for _ in range(4):
            server.cron(plus=400, look_ahead=0)
    assert [(line.op, line.tries) for line in told(caplog)] == [("msg", 1), ("msg", 2), ("msg", 4)]  # type: ignore[attr-defined]


def test_a_parked_transaction_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with Participant() as participant, LocalServer(max_attempts=2) as server:
        participant.always("/a", ERROR)
        submit(server, "g", participant.url("/a"))
        server.cron(plus=400, look_ahead=0)
    [line] = told(caplog, "transaction parked")
    assert (line.gid, line.url) == ("g", participant.url("/a"))  # type: ignore[attr-defined]
    assert "gave up after 2 failed visits" in line.reason  # type: ignore[attr-defined]


def test_many_transactions_at_one_host_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with Participant() as broken, Participant() as other, LocalServer() as server:
        broken.always("/a", ERROR)
        other.always("/a", ERROR)
        for number in range(60):
            submit(server, f"g{number}", broken.url("/a"))
        submit(server, "elsewhere", other.url("/a"))
        server.settle()
    lines = told(caplog)
    # A machine on which sixty submits take a minute begins another interval.
    about = [line for line in lines if line.url == broken.url("/a")]  # type: ignore[attr-defined]
    assert LINES_MOST <= len(about) <= 2 * LINES_MOST
    assert about[LINES_MOST - 1].host_silenced_seconds > 0  # type: ignore[attr-defined]
    assert "elsewhere" in [line.gid for line in lines]  # type: ignore[attr-defined]


def test_what_was_left_out_is_counted_in_the_next_line(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    failures = Failures(clock)

    def fail() -> None:
        body = Body(steps=({"action": "http://broken/a"},), payloads=(b"",))
        tx = Transaction("g", "saga", Status.SUBMITTED, body, clock.now_ms())
        drive = Drive(saga, Snapshot(tx, saga.branches(body)), {}, 1, 1, 0.0)
        drive.answered(Call(drive.s.ops[1], 1), Unknown("no answer"), clock.now_ms())
        failures.repeated(drive, clock.now_ms() + 10_000)

    for _ in range(LINES_MOST + 7):
        fail()
    assert len(told(caplog)) == LINES_MOST
    clock._move_to(round(INTERVAL_SECONDS * 1000))
    fail()
    fail()

    assert [vars(line).get("left_out") for line in told(caplog)[LINES_MOST:]] == [7, None]
