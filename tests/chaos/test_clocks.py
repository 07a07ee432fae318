"""Nodes whose clocks are an hour off, over a database in another time zone: the store's clock counts."""

import math
import time
from itertools import pairwise
from pathlib import Path

import pytest

from chaos.conftest import missing
from chaos.test_nodes import wait_until_quiet
from reefknot.ids import ALPHABET, RANDOM_BITS
from reefknot.testing.participant import ONGOING, Participant, Say

pytestmark = [pytest.mark.crash, pytest.mark.slow]

#: Debian's package libfaketime; the variants for other machines have other names.
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
#: By how much the nodes' clocks are off, in hours.
HOURS = (1, -1, 0)
#: How late the server may be; it is never early.
TOLERANCE_SECONDS = 2.0
SAGAS = 30


def shifted(hours):
    """The environment of a process with a wrong wall clock and a right monotonic one."""
    return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": f"{hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def clock_of(node):
    """The wall clock of a node in seconds, as it stands in the gids that it makes."""
    number = 0
    for character in node.new_gid():
        number = number * len(ALPHABET) + ALPHABET.index(character)
    return (number >> RANDOM_BITS) / 1000


@pytest.fixture
def nodes(start_nodes):
    if not LIBRARIES:
        missing("libfaketime")
    nodes = start_nodes(len(HOURS), *map(shifted, HOURS))
    # A test of clocks that are right after all would show nothing.
    assert [round((clock_of(node) - time.time()) / 3600, 2) for node in nodes] == list(HOURS)
    return nodes


@pytest.fixture
def participant():
    with Participant() as participant:
        yield participant


def called(participant, gid):
    """The calls of a transaction in order: the moment each was started, on the monotonic clock."""
    return [call.started for call in participant.calls if call.gid == gid]


def test_times_are_those_of_the_store(nodes, participant, watch):
    """A time limit, a delay and a pause before a retry, started on each node, driven by any."""
    participant.always("/ongoing", ONGOING)
    participant.script("/once", [ONGOING] * len(HOURS))
    begun = {}

    def start(node, kind, verb, **fields):
        gid = f"{kind}-{nodes.index(node)}"
        begun[gid] = time.monotonic()
        assert node.post(verb, {"gid": gid, **fields}).status == 200
        return gid

    step = {"action": participant.url("/one"), "compensate": participant.url("/undo")}
    again = {"action": participant.url("/once"), "compensate": participant.url("/undo")}
    unclear = {"action": participant.url("/ongoing"), "compensate": participant.url("/undo")}
    for node in nodes:
        gid = start(node, "tcc", "prepare", trans_type="tcc", timeout_to_fail=3)
        urls = {"confirm": participant.url("/confirm"), "cancel": participant.url("/cancel")}
        branch = {"gid": gid, "trans_type": "tcc", "branch_id": "01", **urls}
        assert node.post("registerBranch", branch).status == 200
        payload = {"payloads": ["{}"]}
        start(node, "delayed", "submit", trans_type="msg", steps=[step], custom_data='{"delay":3}', **payload)
        start(node, "retried", "submit", trans_type="saga", steps=[again], retry_interval=3, **payload)
        start(
            node, "late", "submit", trans_type="saga", steps=[unclear], retry_interval=1, timeout_to_fail=3, **payload
        )
    wait_until_quiet(watch, 20)
    for number, node in enumerate(nodes):
        assert node.status(f"tcc-{number}") == "failed"
        assert node.status(f"delayed-{number}") == "succeed"
        assert node.status(f"retried-{number}") == "succeed"
        assert node.status(f"late-{number}") == "failed"
        after = {kind: called(participant, f"{kind}-{number}") for kind in ("tcc", "delayed", "retried", "late")}
        begin = {kind: begun[f"{kind}-{number}"] for kind in after}
        waits = {
            "time limit of the tcc": after["tcc"][0] - begin["tcc"],
            "time limit of the saga": after["late"][-1] - begin["late"],
            "delay of the message": after["delayed"][0] - begin["delayed"],
            "pause before the retry": (after["retried"][1] - after["retried"][0]) / 0.9,
        }
        print(f"node {HOURS[number]:+d} h: " + ", ".join(f"{what} {took:.2f} s" for what, took in waits.items()))
        for what, took in waits.items():
            assert 3 - 0.05 <= took <= 3 + TOLERANCE_SECONDS, what
        # The moments that the server shows are the store's too.
        shown = node.get("query", gid=f"tcc-{number}").json()["transaction"]["create_time"]
        assert shown.endswith(("Z", "+00:00")) or "T" in shown
        created = watch.record(f"tcc-{number}").created_ms / 1000
        assert math.isclose(created, time.time() - (time.monotonic() - begin["tcc"]), abs_tol=TOLERANCE_SECONDS)


def test_no_transaction_is_claimed_twice_or_too_early(nodes, participant, watch):
    """Sagas that are retried every second, half of the calls longer than that: one driver at a time."""
    participant.on("/wait", lambda call: Say(425, b'{"dtm_result":"ONGOING"}', seconds=1.2 * (call.gid[-1] in "02468")))
    step = {"action": participant.url("/wait"), "compensate": participant.url("/undo")}
    gids = [f"saga-{number}" for number in range(SAGAS)]
    for number, gid in enumerate(gids):
        submit = {"gid": gid, "trans_type": "saga", "steps": [step], "payloads": ["{}"], "retry_interval": 1}
        assert nodes[number % len(nodes)].post("submit", submit).status == 200
    drivers = set()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        drivers |= {record.owner for record in watch.unfinished() if record.owner}
        time.sleep(0.05)
    assert len(drivers) == len(nodes), "every node drove some of them"
    for gid in gids:
        calls = [call for call in participant.calls if call.gid == gid and call.ended]
        assert len(calls) >= 2
        for before, after in pairwise(calls):
            pause = after.started - before.ended
            assert 0.9 - 0.02 <= pause <= 1.1 + TOLERANCE_SECONDS, gid
    for gid in gids:
        assert nodes[0].post("forceStop", {"gid": gid}).status == 200
    wait_until_quiet(watch, 10)
