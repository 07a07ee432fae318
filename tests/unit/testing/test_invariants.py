"""The checker finds a planted violation of each invariant, and nothing in a good run."""

import pytest
from msgspec.structs import replace

from reefknot.testing.effects import Effects
from reefknot.testing.history import Ack, Call, Effect, History, Row, Stored, Written, result_of, stored
from reefknot.testing.invariants import violations

URL = "http://bank/"


def rows(*states, ops=("compensate", "action")):
    """Two branches; the states are those of their operations in stored order."""
    keys = [(branch, op) for branch in ("01", "02") for op in ops]
    return tuple(Row(branch, op, state, URL + op) for (branch, op), state in zip(keys, states, strict=True))


SUCCEEDED = History(
    acks=(Ack("submit", "g"),),
    calls=(Call("g", "01", "action", 100, 110), Call("g", "02", "action", 120, 130)),
    effects=(Effect("g", "01", "action", 109), Effect("g", "02", "action", 129)),
    final=(Stored("g", "saga", "succeed", rows("prepared", "succeed", "prepared", "succeed"), finished_ms=140),),
    seen=(Stored("g", "saga", "submitted", rows("prepared", "succeed", "prepared", "prepared")),),
    writes=(
        Written("g", "a", 1, True, 90, 1),
        Written("g", "a", 1, True, 115, 2, frozenset({1})),
        Written("g", "b", 2, True, 120, 3, frozenset({1})),
        Written("g", "a", 1, False, 125),
        Written("g", "b", 2, True, 140, 4, frozenset({1, 3})),
    ),
    slack_ms=1,
)
ROLLED_BACK = History(
    acks=(Ack("submit", "g"),),
    calls=(
        Call("g", "01", "action", 100, 110),
        Call("g", "02", "action", 120, 130, "failure"),
        Call("g", "02", "compensate", 140, 150),
        Call("g", "01", "compensate", 160, 170),
    ),
    effects=(Effect("g", "01", "action", 109), Effect("g", "01", "compensate", 169)),
    final=(Stored("g", "saga", "failed", rows("succeed", "succeed", "succeed", "failed"), finished_ms=180),),
    request_timeout_ms=3_000,
    slack_ms=1,
)
CONFIRMED = History(
    acks=(
        Ack("prepare", "g"),
        Ack("registerBranch", "g", rows=(("01", "cancel"), ("01", "confirm"))),
        Ack("submit", "g", ends="succeed"),
    ),
    calls=(Call("g", "01", "confirm", 100, 110), Call("g", "02", "confirm", 100, 110)),
    effects=(Effect("g", "01", "try", 50), Effect("g", "02", "try", 50), Effect("g", "01", "confirm", 105)),
    final=(
        Stored(
            "g",
            "tcc",
            "succeed",
            rows("prepared", "succeed", "prepared", "succeed", ops=("cancel", "confirm")),
            finished_ms=120,
        ),
    ),
)


@pytest.mark.parametrize("run", [SUCCEEDED, ROLLED_BACK, CONFIRMED, History()])
def test_nothing_is_found_in_a_good_run(run):
    assert violations(run) == ()


def final(run, **changes):
    return replace(run, final=(replace(run.final[0], **changes),))


def calls(run, *changes, drop=(), more=()):
    """The run with calls changed by position, dropped or added."""
    kept = list(run.calls)
    for position, fields in changes:
        kept[position] = replace(kept[position], **fields)
    return replace(run, calls=tuple(c for i, c in enumerate(kept) if i not in drop) + tuple(more))


PLANTED = {
    "I1 gone": (replace(SUCCEEDED, final=(), seen=()), "I1 g: submit was acknowledged, but the transaction is gone"),
    "I1 branch gone": (
        final(CONFIRMED, rows=CONFIRMED.final[0].rows[2:]),
        "I1 g: the registration of branch 01 confirm was acknowledged, but it is gone",
    ),
    "I1 decision turned": (
        replace(CONFIRMED, acks=(Ack("abort", "g", ends="failed"),)),
        "I1 g: abort was acknowledged, so it must end as failed, but it is succeed",
    ),
    "I2": (
        final(SUCCEEDED, status="submitted", finished_ms=0.0),
        "I2 g: it was acknowledged, but it is still submitted",
    ),
    "I3 missing": (
        final(SUCCEEDED, rows=rows("prepared", "succeed", "prepared", "prepared")),
        "I3 g: it succeeded, but action of branch 02 is prepared",
    ),
    "I3 made up": (
        calls(SUCCEEDED, (1, {"result": "ongoing"})),
        "I3 g: action of branch 02 is recorded as done, but no participant said so",
    ),
    "I3 lost reply": (
        calls(SUCCEEDED, (1, {"ended_ms": 0.0})),
        "I3 g: action of branch 02 is recorded as done, but no participant said so",
    ),
    "I4": (
        replace(ROLLED_BACK, effects=ROLLED_BACK.effects[:1]),
        "I4 g: it failed and action of branch 01 took effect, but compensate did not follow",
    ),
    "I4 undone too early": (
        replace(ROLLED_BACK, effects=(Effect("g", "01", "compensate", 90), Effect("g", "01", "action", 109))),
        "I4 g: it failed and action of branch 01 took effect, but compensate did not follow",
    ),
    "I4 by answers": (
        calls(
            final(
                replace(ROLLED_BACK, effects=None),
                rows=rows("prepared", "succeed", "succeed", "failed"),
            ),
            drop=(3,),
        ),
        "I4 g: it failed and action of branch 01 took effect, but compensate did not follow",
    ),
    "I4 tcc": (
        final(CONFIRMED, status="failed"),
        "I4 g: it failed and try of branch 01 took effect, but cancel did not follow",
    ),
    "I4 msg": (final(SUCCEEDED, mode="msg", status="failed"), "I4 g: the message failed, but it was delivered"),
    "I5": (
        calls(CONFIRMED, more=[Call("g", "02", "cancel", 111, 112)]),
        "I5 g: confirm and cancel were both called",
    ),
    "I5 workflow": (
        calls(final(CONFIRMED, mode="workflow"), more=[Call("g", "02", "cancel", 111, 112)]),
        "I5 g: confirm and cancel were both called for branch 02",
    ),
    "I6 forward": (
        calls(SUCCEEDED, (1, {"started_ms": 105})),
        "I6 g: action 02 was called before action 01 had succeeded",
    ),
    "I6 back": (
        calls(ROLLED_BACK, (3, {"started_ms": 145})),
        "I6 g: compensate 01 was called before compensate 02 had succeeded",
    ),
    "I6 orders": (
        calls(
            final(SUCCEEDED, custom_data='{"concurrent":true,"orders":{"0":[1]}}'),
        ),
        "I6 g: action 01 was called before action 02 had succeeded",
    ),
    "I7 running": (
        calls(ROLLED_BACK, (1, {"ended_ms": 145})),
        "I7 g: branch 02 was compensated while its action could still be running",
    ),
    "I7 unanswered": (
        calls(ROLLED_BACK, (1, {"ended_ms": 0.0})),
        "I7 g: branch 02 was compensated while its action could still be running",
    ),
    "I7 late action": (
        calls(ROLLED_BACK, more=[Call("g", "02", "action", 155, 156)]),
        "I7 g: action 02 was called after its compensation",
    ),
    "I7 never due": (
        calls(ROLLED_BACK, (0, {"result": "failure"}), drop=(1,)),
        "I7 g: branch 02 was compensated, but its action was never due",
    ),
    "I8": (
        calls(SUCCEEDED, more=[Call("g", "02", "action", 180, 190)]),
        "I8 g: action of branch 02 was called 40 ms after the end",
    ),
    "I9 epoch": (
        replace(SUCCEEDED, writes=(*SUCCEEDED.writes, Written("g", "a", 1, True, 150, 5, frozenset({1, 3})))),
        "I9 g: a write of epoch 1 was accepted after one of epoch 2",
    ),
    "I9 gap": (
        replace(SUCCEEDED, writes=(*SUCCEEDED.writes, Written("g", "b", 2, True, 150, 6, frozenset({1, 3})))),
        "I9 g: version 6 follows version 4",
    ),
    "I9 unsettled": (
        replace(SUCCEEDED, writes=(*SUCCEEDED.writes, Written("g", "b", 2, True, 150, 5, frozenset({3})))),
        "I9 g: operations [1] were settled and are no more",
    ),
    "I9 status": (
        replace(SUCCEEDED, seen=(replace(SUCCEEDED.seen[0], status="failed"),)),
        "I9 g: its status went from failed to succeed",
    ),
    "I9 row": (
        replace(SUCCEEDED, seen=(replace(SUCCEEDED.seen[0], rows=rows("prepared", "failed", "prepared", "prepared")),)),
        "I9 g: action of branch 01 was failed and is so no more",
    ),
    "I10": (
        calls(SUCCEEDED, (1, {"owner": "a", "epoch": 1, "started_ms": 126})),
        "I10 g: a called action of branch 02 after its write of epoch 1 was refused",
    ),
    "I11": (
        replace(SUCCEEDED, effects=(*SUCCEEDED.effects, Effect("g", "02", "action", 135))),
        "I11 g: action of branch 02 took effect 2 times",
    ),
}


@pytest.mark.parametrize(("run", "sentence"), PLANTED.values(), ids=PLANTED)
def test_planted_violation_is_found(run, sentence):
    assert sentence in violations(run)


def test_each_invariant_has_a_planted_violation():
    assert {name.partition(" ")[0] for name in PLANTED} == {f"I{number}" for number in range(1, 12)}


def test_forced_stop_needs_no_compensation_and_may_be_noticed_late():
    run = final(replace(SUCCEEDED, forced=frozenset({"g"}), lease_ms=50), status="failed")
    assert violations(run) == ()
    late = calls(run, more=[Call("g", "02", "action", 180, 190), Call("g", "02", "action", 195, 199)])
    assert violations(late) == ("I8 g: action of branch 02 was called 55 ms after the end",)


def test_compensation_after_the_time_limit_is_allowed():
    run = calls(replace(ROLLED_BACK, request_timeout_ms=20), (1, {"ended_ms": 0.0}))
    assert violations(run) == ()


def test_transactions_do_not_mix():
    other = replace(CONFIRMED.final[0], gid="h", status="prepared", finished_ms=0.0)
    run = replace(CONFIRMED, final=(*CONFIRMED.final, other), acks=(*CONFIRMED.acks, Ack("prepare", "h")))
    assert violations(run) == (
        "I2 h: it was acknowledged, but it is still prepared",
        "I3 h: confirm of branch 01 is recorded as done, but no participant said so",
        "I3 h: confirm of branch 02 is recorded as done, but no participant said so",
    )


def test_reply_of_query_is_understood():
    reply = {
        "transaction": {
            "gid": "g",
            "trans_type": "saga",
            "status": "failed",
            "rollback_time": "1970-01-01T00:00:01.500Z",
            "concurrent": False,
        },
        "branches": [{"branch_id": "01", "op": "action", "status": "succeed", "url": URL}],
    }
    assert stored(reply) == Stored("g", "saga", "failed", (Row("01", "action", "succeed", URL),), finished_ms=1500.0)
    assert stored({"transaction": None, "branches": []}) is None


@pytest.mark.parametrize(
    ("status", "result"), [(200, "success"), (204, "success"), (409, "failure"), (425, "ongoing"), (500, "unclear")]
)
def test_answers_have_results(status, result):
    assert result_of(status) == result


@pytest.mark.parametrize(
    ("ops", "effective"),
    [
        (["action", "action"], ["action"]),
        (["action", "compensate", "compensate"], ["action", "compensate"]),
        (["compensate", "action"], []),
        (["try", "cancel"], ["try", "cancel"]),
        (["cancel", "try", "cancel"], []),
        (["action", "rollback"], ["action", "rollback"]),
        (["try", "confirm", "confirm"], ["try", "confirm"]),
    ],
)
def test_barrier_lets_each_operation_have_one_effect(ops, effective):
    effects = Effects()
    assert [op for op in ops if effects.apply("g", "01", op)] == effective
    assert [effect.op for effect in effects.all] == effective
