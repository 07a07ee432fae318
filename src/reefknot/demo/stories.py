"""The four stories: 30 from Alice, at the bank in the east, to somebody at the bank in the west."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from reefknot.demo.audit import find_problems
from reefknot.demo.calls import RecordedCall
from reefknot.demo.stage import EAST, SERVER, WEST, DemoError, Stage

AMOUNT = 30
FINISH_SECONDS = 30.0
#: How long the crashed one stays away, so that the server finds out what that means.
AWAY_SECONDS = 1.5

DONE = [("01", "action"), ("02", "action")]
UNDONE = [("01", "action"), ("01", "compensate")]

Tell = Callable[[str], None]


class Story(msgspec.Struct, frozen=True):
    """One story: what is tried, what disturbs it, and how it must end.

    ``effects``: branch and operation of each booking it must leave, each exactly once.
    ``answers``: branch, operation and an answer that a bank must have given.
    ``repeated``: branch and operation that must have been called more than once, if any.
    """

    number: int
    title: str
    receiver: str
    disturb: Callable[[Stage, str, Tell], None] | None
    status: str
    balances: dict[str, int]
    effects: list[tuple[str, str]]
    answers: list[tuple[str, str, str]]
    repeated: tuple[str, str] | None = None


class BranchLine(msgspec.Struct, frozen=True):
    """One branch operation as the report shows it.

    ``milliseconds``: from the first call that reached the bank until the server had stored the
    result; None if it stored none.
    """

    branch_id: str
    op: str
    call: str
    status: str
    tries: int
    milliseconds: int | None
    answers: list[str]


class Ending(msgspec.Struct, frozen=True):
    """How a story ended."""

    number: int
    title: str
    gid: str
    url: str
    status: str
    seconds: float
    branches: list[BranchLine]
    balances: dict[str, int]
    total: int
    problems: list[str]


def perform(story: Story, stage: Stage, tell: Tell) -> Ending:
    """Run one story and examine how it ended.

    Args:
        story: which one.
        stage: the server and the banks, all running.
        tell: is given each line of text as things happen.

    Raises:
        DemoError: a process did not do its part, or the transfer did not end in time.
    """
    gid: str = stage.call_server("GET", "newGid")["gid"]
    tell(f"   gid {gid}")
    tell(f"   {stage.query_url(gid)}")
    started = time.monotonic()
    if story.disturb is None:
        submit(stage, gid, story.receiver)
    else:
        stage.hold_answers(WEST, "/in")
        submit(stage, gid, story.receiver)
        story.disturb(stage, gid, tell)
    found = wait_for_end(stage, gid, tell)
    seconds = time.monotonic() - started
    calls = stage.calls(gid)
    books = stage.books()
    status = found["transaction"]["status"]
    branches = [line for branch in found["branches"] if (line := branch_line(stage, branch, calls)) is not None]
    problems = find_problems(books, stage.asked_balances(), story.balances, gid, story.effects)
    problems += odd_ends(story, status, branches)
    return Ending(
        number=story.number,
        title=story.title,
        gid=gid,
        url=stage.query_url(gid),
        status=status,
        seconds=round(seconds, 3),
        branches=sorted(branches, key=lambda line: first_call(calls, line.branch_id, line.op)),
        balances=books.balances,
        total=books.total,
        problems=[f"story {story.number}: {problem}" for problem in problems],
    )


def submit(stage: Stage, gid: str, receiver: str) -> None:
    """Hand the transfer over to the server: from its answer on, the server sees to the rest."""
    stage.call_server(
        "POST",
        "submit",
        {
            "gid": gid,
            "trans_type": "saga",
            "steps": [
                {"action": stage.url(EAST, "/out"), "compensate": stage.url(EAST, "/out/undo")},
                {"action": stage.url(WEST, "/in"), "compensate": stage.url(WEST, "/in/undo")},
            ],
            "payloads": [
                f'{{"account": "alice", "amount": {AMOUNT}}}',
                f'{{"account": "{receiver}", "amount": {AMOUNT}}}',
            ],
        },
    )


def kill_bank(stage: Stage, gid: str, tell: Tell) -> None:
    """SIGKILL the second bank after its commit and before its answer; start it again later."""
    wait_for_booking(stage, gid)
    stage.kill(WEST)
    stage.release_answers(WEST)
    tell(f"   ... west has booked {AMOUNT} for Bob and is killed (SIGKILL) before it can answer")
    stage.signals.sleep(AWAY_SECONDS)
    status = stage.call_server("GET", f"query?gid={gid}")["transaction"]["status"]
    tell(f"   ... the server does not know whether Bob was paid; it keeps asking (status: {status})")
    stage.start(WEST)
    tell("   ... west is back")


def kill_server(stage: Stage, gid: str, tell: Tell) -> None:
    """SIGKILL the server while it waits for the second bank's answer; start it again later."""
    wait_for_booking(stage, gid)
    stage.kill(SERVER)
    stage.release_answers(WEST)
    tell("   ... the server is killed (SIGKILL) while it waits for west's answer; nobody drives the transfer now")
    stage.signals.sleep(AWAY_SECONDS)
    stage.start(SERVER)
    tell("   ... the server is back, with nothing but its database")


def wait_for_booking(stage: Stage, gid: str) -> None:
    """Wait until the second bank has committed its part, though its answer is held back."""
    until = time.monotonic() + FINISH_SECONDS
    while ("02", "action") not in stage.books().of(gid):
        if time.monotonic() > until:
            raise DemoError(f"{gid}: the bank in the west booked nothing within {FINISH_SECONDS:.0f} s")
        stage.signals.sleep()


def wait_for_end(stage: Stage, gid: str, tell: Tell) -> Any:
    """Wait until the transaction has ended; what the server's query says then.

    Raises:
        DemoError: it did not end in time.
    """
    started = time.monotonic()
    said = 0
    while True:
        found = stage.call_server("GET", f"query?gid={gid}")
        status = found["transaction"]["status"]
        if status in {"succeed", "failed"}:
            return found
        waited = time.monotonic() - started
        if waited > FINISH_SECONDS:
            raise DemoError(f"{gid} is still {status} after {FINISH_SECONDS:.0f} s")
        if int(waited) > said:
            said = int(waited)
            tell(f"   ... waiting for the end, {said} s (status: {status})")
        stage.signals.sleep()


def branch_line(stage: Stage, branch: dict[str, Any], calls: list[RecordedCall]) -> BranchLine | None:
    """What became of a branch operation; None if it was not called and need not be."""
    mine = [call for call in calls if (call.branch_id, call.op) == (branch["branch_id"], branch["op"])]
    if not mine:
        return None
    bank = EAST if branch["url"].startswith(stage.url(EAST, "/")) else WEST
    finished = branch.get("finish_time")
    milliseconds = _milliseconds(finished) - mine[0].arrived_ms if finished else None
    return BranchLine(
        branch_id=branch["branch_id"],
        op=branch["op"],
        call=f"{bank}{mine[0].path}",
        status=branch["status"],
        tries=len(mine),
        milliseconds=milliseconds,
        answers=[_answer(call) for call in mine],
    )


def odd_ends(story: Story, status: str, branches: list[BranchLine]) -> list[str]:
    """What did not happen although the story is about it."""
    problems = []
    if status != story.status:
        problems.append(f"the transfer ended as {status}, expected is {story.status}")
    lines = {(line.branch_id, line.op): line for line in branches}
    for branch_id, op, answer in story.answers:
        line = lines.get((branch_id, op))
        if line is None or answer not in line.answers:
            got = ", ".join(line.answers) if line else "no call at all"
            problems.append(f"branch {branch_id} {op} got {got}; expected is {answer!r}")
    if story.repeated and (story.repeated not in lines or lines[story.repeated].tries < 2):
        problems.append(f"branch {' '.join(story.repeated)} was not called again: the crash missed its moment")
    return problems


def first_call(calls: list[RecordedCall], branch_id: str, op: str) -> int:
    """When the first call of an operation arrived, in milliseconds since the epoch."""
    return min(call.arrived_ms for call in calls if (call.branch_id, call.op) == (branch_id, op))


def _answer(call: RecordedCall) -> str:
    if call.status == 0:
        return "no answer"
    return call.answer if call.status == 200 else f"{call.status} {call.answer}"


def _milliseconds(time_text: str) -> int:
    return round(datetime.fromisoformat(time_text).timestamp() * 1000)


#: In this order, each starting from the balances that the one before left.
STORIES = (
    Story(
        number=1,
        title="All goes well: 30 from Alice to Bob",
        receiver="bob",
        disturb=None,
        status="succeed",
        balances={"alice": 70, "bob": 130, "carol": 0},
        effects=DONE,
        answers=[("01", "action", "run"), ("02", "action", "run")],
    ),
    Story(
        number=2,
        title="The second bank refuses: 30 from Alice to Carol, whose account is closed",
        receiver="carol",
        disturb=None,
        status="failed",
        balances={"alice": 70, "bob": 130, "carol": 0},
        effects=UNDONE,
        answers=[
            ("02", "action", "409 carol's account is closed"),
            ("02", "compensate", "nothing to undo"),
            ("01", "compensate", "run"),
        ],
    ),
    Story(
        number=3,
        title="The second bank is killed in mid-call: 30 from Alice to Bob",
        receiver="bob",
        disturb=kill_bank,
        status="succeed",
        balances={"alice": 40, "bob": 160, "carol": 0},
        effects=DONE,
        answers=[("02", "action", "no answer"), ("02", "action", "repeated")],
        repeated=("02", "action"),
    ),
    Story(
        number=4,
        title="The server is killed in the middle: 30 from Alice to Bob",
        receiver="bob",
        disturb=kill_server,
        status="succeed",
        balances={"alice": 10, "bob": 190, "carol": 0},
        effects=DONE,
        answers=[("02", "action", "no answer"), ("02", "action", "repeated")],
        repeated=("02", "action"),
    ),
)
