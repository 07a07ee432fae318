"""Scenarios as text: a request, the answers of the branches, and what the engine makes of them.

A scenario is a file of blocks, separated by empty lines. A block that starts with ``#`` is prose.
Any other block is a command; below its ``----`` stands what it led to, written by this module:

    submit saga
    {"steps": [{"action": "http://bank/out", "compensate": "http://bank/out-undo"}], "payloads": ["{}"]}
    ----
    submitted PP

    drive
    action 01: ongoing
    ----
    call action 01 http://bank/out
    answer action 01: ongoing
    give up submitted PP, again in 10 s

Commands: ``prepare``, ``submit``, ``abort`` and ``register``, each with the mode and the JSON body of
the request on the following lines; ``topic NAME URL…``; and ``drive`` or ``drive after SECONDS``: one
visit of the transaction. Its lines give the answers of branches in this drive, in order, separated by
commas; a branch without an answer succeeds. Answers are ``success``, ``failure REASON``, ``ongoing``,
``error TEXT``, and ``crash``: the driver vanishes while the call is under way.

    python -m reefknot.testing.scenario tests/scenarios/*/*.txt             # exit code 1 if one differs
    python -m reefknot.testing.scenario tests/scenarios/*/*.txt --rewrite   # write what happens now

There are no sockets, stores or clocks: the modes decide, and the loop here obeys the runner's rules.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec.structs import replace

from reefknot.coordinator.drive import Drive
from reefknot.coordinator.records import merged_body
from reefknot.engine.admission import Limits, check_branch, check_request
from reefknot.engine.commands import Backoff, Call, Command, Move, Park, Retry
from reefknot.engine.mode import Mode
from reefknot.engine.registry import discover
from reefknot.engine.schedule import base_interval_seconds, interval_seconds
from reefknot.errors import ReefknotError
from reefknot.model import (
    Body,
    Failure,
    Ongoing,
    Outcome,
    Snapshot,
    Status,
    Success,
    Transaction,
    TransactionRequest,
    Unknown,
)
from reefknot.wire.requests import branch_request, transaction_request

#: The settings of a scenario; a request can bring its own.
TIMEOUT_SECONDS, RETRY_SECONDS, RETRY_MAX_SECONDS = 35, 10, 300
REQUEST_TIMEOUT_SECONDS, LEASE_SECONDS = 3, 8

RULE = "----"
#: Every scenario starts at this time.
START_MS = 1_000_000


class Crash:
    """The driver vanishes while the call is under way."""


#: One answer of a branch.
Answer = Outcome | Crash


class Scenario:
    """One transaction as the engine sees it, and the commands of a scenario that change it."""

    def __init__(self) -> None:
        self._modes = discover()
        self._now_ms = START_MS
        self._topics: dict[str, tuple[str, ...]] = {}
        self._s: Snapshot | None = None
        self._vanished = False
        self._written: list[str] = []

    def run(self, command: list[str]) -> list[str]:
        """Carry out one command; the lines it led to."""
        verb, *words = command[0].split()
        self._written = []
        try:
            if verb == "topic":
                self._topics[words[0]] = tuple(words[1:])
            elif verb == "drive":
                self._drive(float(words[1]) if words else 0.0, answers_in(command[1:]))
            else:
                self._request(verb, words[0], " ".join(command[1:]) or "{}")
        except ReefknotError as error:
            self._written.append(f"refused: {error}")
        return self._written

    # --- requests ---------------------------------------------------------------------------------

    def _request(self, verb: str, mode: str, body: str) -> None:
        fields = json.dumps({"gid": "order-1", "trans_type": mode, **json.loads(body)}).encode()
        if verb == "register":
            self._register(self._modes[mode], fields)
        elif verb == "abort":
            tx = self._known().tx
            self._decided(self._modes[tx.mode].abort(tx, transaction_request(fields)))
        else:
            self._start(verb, self._modes[mode], transaction_request(fields))
        self._written.append(summary(self._known()))

    def _start(self, verb: str, mode: Mode, request: TransactionRequest) -> None:
        if verb == "submit" and not mode.submit_creates:
            self._decided(mode.submit(request), request.extra.get("result", ""))
            return
        check_request(request, mode, Limits())
        if self._s is None:
            status = Status.PREPARED if verb == "prepare" else Status.SUBMITTED
            body = Body(
                request.steps,
                request.payloads,
                request.query_prepared,
                request.protocol,
                request.custom_data,
                request.options,
                mode.timeout_seconds(request.options, TIMEOUT_SECONDS),
                base_interval_seconds(request.options, RETRY_SECONDS),
                {name: self._topics[name] for name in mode.topics(request)},
            )
            tx = Transaction("order-1", mode.name, status, body, self._now_ms, self._now_ms)
            self._s = Snapshot(tx, mode.branches(body))
        elif verb == "submit":
            tx = replace(self._s.tx, body=merged_body(self._s.tx.body, request))
            self._s = replace(self._s, tx=tx)
            self._decided(mode.submit(request))

    def _register(self, mode: Mode, fields: bytes) -> None:
        request, s = branch_request(fields), self._known()
        ops = mode.register(request)
        check_branch(request, ops, Limits())
        self._s = replace(s, ops=s.ops + ops)

    def _decided(self, move: Move, result: str = "") -> None:
        """Somebody decided from outside."""
        s = self._known()
        tx = replace(s.tx, status=move.to, reason=move.reason, result=result, attempts=0, decided_ms=self._now_ms)
        self._s = replace(s, tx=tx)

    def _known(self) -> Snapshot:
        if self._s is None:
            raise AssertionError("the scenario has no transaction yet")
        return self._s

    # --- one visit --------------------------------------------------------------------------------

    def _drive(self, seconds: float, answers: dict[str, list[Answer]]) -> None:
        self._now_ms += round(seconds * 1000)
        if self._known().tx.status.final:
            self._written.append("nobody drives what is finished")
            return
        s = self._taken_over(self._known())
        mode = self._modes[s.tx.mode]
        drive = Drive(mode, s, {}, epoch=1, version=1, deadline=0.0)
        stored, pending = s, list[Call]()
        while True:
            commands: list[Command] = [drive.moving] if drive.moving else mode.decide(drive.s, self._now_ms)
            head = commands[0] if commands else None
            if isinstance(head, Move | Park):
                if not pending:
                    if self._ended(drive, head):
                        return
                    continue
            else:
                calls = drive.new_calls([command for command in commands if isinstance(command, Call)])
                if drive.dirty and (calls or pending):
                    self._written.append(f"write {summary(drive.s)}")
                    stored, drive.dirty = drive.s, False
                self._written += [f"call {name(call)} {call.op.url}".rstrip() for call in calls]
                pending += calls
            if not pending:
                self._give_up(drive, commands)
                return
            if not self._answer(drive, pending.pop(0), answers):
                self._s, self._vanished = stored, True
                return

    def _taken_over(self, s: Snapshot) -> Snapshot:
        """What a driver sees; after a crash a call may be under way until its time limit has passed."""
        if not self._vanished:
            return Snapshot(s.tx, s.ops, s.unsettled_until_ms)
        self._vanished = False
        self._now_ms += LEASE_SECONDS * 1000
        limit = s.tx.body.options.request_timeout_seconds or REQUEST_TIMEOUT_SECONDS
        return Snapshot(s.tx, s.ops, self._now_ms + limit * 1000, self._now_ms)

    def _answer(self, drive: Drive, call: Call, answers: dict[str, list[Answer]]) -> bool:
        """Take in the answer of a call; False if the driver vanished instead."""
        planned = answers.get(name(call))
        outcome = planned.pop(0) if planned else Success()
        if isinstance(outcome, Crash):
            self._written.append(f"crash during {name(call)}")
            return False
        self._written.append(f"answer {name(call)}: {words_of(outcome)}")
        drive.answered(call, outcome, self._now_ms)
        return True

    def _ended(self, drive: Drive, head: Move | Park) -> bool:
        """Enter another status or park; whether that ends the drive."""
        if isinstance(head, Park):
            self._s = replace(drive.s, tx=replace(drive.s.tx, parked=head.reason))
            self._written.append(f"park {summary(self._s)}: {head.reason}")
            return True
        drive.move(head, self._now_ms)
        self._written.append(f"move to {head.to}" + (f": {head.reason}" if head.reason else ""))
        if head.to.final:
            self._s = drive.s
            self._written.append(f"write {summary(drive.s)}")
        return head.to.final

    def _give_up(self, drive: Drive, commands: list[Command]) -> None:
        retry = drive.retry or next((command for command in commands if isinstance(command, Retry)), None)
        attempts = 0 if retry is not None and retry.backoff is Backoff.RESET else drive.attempts
        self._s = replace(drive.s, tx=replace(drive.s.tx, attempts=attempts))
        due_ms = interval_seconds(drive.s.tx.body.retry_seconds, attempts, RETRY_MAX_SECONDS) * 1000
        if retry is not None and retry.not_before_ms:
            due_ms = retry.not_before_ms - self._now_ms
        deadline_ms = drive.mode.deadline_ms(drive.s.tx)
        if deadline_ms > self._now_ms:
            due_ms = min(due_ms, deadline_ms - self._now_ms)
        when = f"again in {due_ms / 1000:g} s" if commands else "only its client can go on with it"
        self._written.append(f"give up {summary(drive.s)}, {when}")


def name(call: Call) -> str:
    """An operation as scenarios name it: ``action 01``."""
    return f"{call.op.op} {call.op.branch_id}"


def summary(s: Snapshot) -> str:
    """Status and operations: ``aborting PSSF``."""
    return f"{s.tx.status} {''.join(op.status[0].upper() for op in s.ops)}".rstrip()


def words_of(outcome: Outcome) -> str:
    """An outcome in a scenario's words."""
    match outcome:
        case Success():
            return "success"
        case Failure(reason):
            return f"failure {reason}"
        case Ongoing():
            return "ongoing"
        case Unknown(error):
            return f"error {error}"


def answers_in(lines: Iterable[str]) -> dict[str, list[Answer]]:
    """The planned answers of a drive, by operation.

    Raises:
        ValueError: a word is none of the five.
    """
    makers: dict[str, Callable[[str], Answer]] = {
        "success": lambda _: Success(),
        "failure": Failure,
        "ongoing": lambda _: Ongoing(),
        "error": Unknown,
        "crash": lambda _: Crash(),
    }
    planned: dict[str, list[Answer]] = {}
    for line in lines:
        operation, _, texts = line.partition(": ")
        for text in texts.split(", "):
            word, _, rest = text.partition(" ")
            if word not in makers:
                raise ValueError(f"{line!r}: {word!r} is none of {', '.join(makers)}")
            planned.setdefault(operation, []).append(makers[word](rest))
    return planned


def replay(text: str) -> str:
    """A scenario with the outputs as they are now.

    Args:
        text: the scenario; what stands below each ``----`` is replaced.
    """
    scenario, blocks = Scenario(), []
    for block in text.strip("\n").split("\n\n"):
        if block.startswith("#"):
            blocks.append(block)
        else:
            command = block.split(f"\n{RULE}", 1)[0].splitlines()
            blocks.append("\n".join([*command, RULE, *scenario.run(command)]))
    return "\n\n".join(blocks) + "\n"


def main() -> int:
    """Replay the scenarios that are named; the number of those that differ, at most 1."""
    parser = argparse.ArgumentParser(description="Replay scenarios of the engine.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rewrite", action="store_true", help="write what happens now into the files")
    arguments = parser.parse_args()
    code = 0
    for path in arguments.files:
        before = path.read_text(encoding="utf-8")
        after = replay(before)
        if after != before:
            sys.stdout.write(f"{path}: {'rewritten' if arguments.rewrite else 'differs'}\n")
            code = 0 if arguments.rewrite else 1
            if arguments.rewrite:
                path.write_text(after, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
