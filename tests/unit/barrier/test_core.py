"""The barrier's rule: which rows an operation writes and what their fate means."""

import pytest

from reefknot.barrier.core import Branch, Reason, asking_row, checked_table, decide, rows
from reefknot.errors import Invalid

QUERY = {"trans_type": "saga", "gid": "g1", "branch_id": "01", "op": "action"}


def branch(op: str) -> Branch:
    return Branch.from_query(QUERY | {"op": op})


@pytest.mark.parametrize(
    ("op", "written"),
    [
        ("action", [("action", "01", "action")]),
        ("compensate", [("action", "01", "compensate"), ("compensate", "01", "compensate")]),
        ("try", [("try", "01", "try")]),
        ("confirm", [("confirm", "01", "confirm")]),
        ("cancel", [("try", "01", "cancel"), ("cancel", "01", "cancel")]),
        ("rollback", [("action", "01", "rollback"), ("rollback", "01", "rollback")]),
        ("msg", [("msg", "01", "msg")]),
        ("my-step", [("my-step", "01", "my-step")]),
    ],
)
def test_rows_of_an_operation(op, written):
    assert [(row.op, row.barrier_id, row.reason) for row in rows(branch(op), 1)] == written


def test_calls_are_numbered_with_two_digits():
    assert [rows(branch("action"), call)[0].barrier_id for call in (1, 2, 10, 99)] == ["01", "02", "10", "99"]
    with pytest.raises(Invalid, match="100 times"):
        rows(branch("action"), 100)


def test_row_of_a_check_back():
    row = asking_row(Branch("msg", "g1", "05", "action"))
    assert row.values == ("msg", "g1", "00", "msg", "01", "rollback")


@pytest.mark.parametrize(
    ("inserted", "own_reason", "reason"),
    [
        ([True], True, Reason.RUN),
        ([False], True, Reason.REPEATED),
        ([False], False, Reason.TOO_LATE),
        ([False, True], True, Reason.RUN),
        ([False, False], True, Reason.REPEATED),
        ([True, True], True, Reason.NOTHING_TO_UNDO),
    ],
)
def test_decision(inserted, own_reason, reason):
    assert decide(inserted, own_reason=own_reason) is reason


@pytest.mark.parametrize("field", QUERY)
def test_every_part_of_the_identity_is_needed(field):
    with pytest.raises(Invalid, match=f"^{field}: is missing"):
        Branch.from_query({key: value for key, value in QUERY.items() if key != field})
    with pytest.raises(Invalid, match=f"^{field}: is missing"):
        Branch.from_query(QUERY | {field: ""})


@pytest.mark.parametrize("kind", [dict, tuple])
def test_metadata_of_a_grpc_call(kind):
    metadata = [
        ("dtm-trans_type", "saga"),
        ("dtm-gid", "g1"),
        ("dtm-branch_id", b"01"),
        ("dtm-op", "action"),
        ("x", ""),
    ]
    assert Branch.from_metadata(kind(metadata)) == branch("action")
    with pytest.raises(Invalid, match=r"^op: is missing in the metadata"):
        Branch.from_metadata(kind(metadata[:3]))


@pytest.mark.parametrize(("field", "most"), [("trans_type", 45), ("gid", 128), ("branch_id", 128), ("op", 45)])
def test_what_the_column_cannot_hold_is_refused(field, most):
    assert getattr(Branch.from_query(QUERY | {field: "ä" * most}), field) == "ä" * most
    with pytest.raises(Invalid, match=f"^{field}: is {most + 1} characters long"):
        Branch.from_query(QUERY | {field: "x" * (most + 1)})


@pytest.mark.parametrize("gid", ["a\nb", "a\rb", "a;b", "a\0b", "\x7f"])
def test_characters_that_some_client_deletes_are_refused(gid):
    with pytest.raises(Invalid, match=r"^gid: contains"):
        Branch.from_query(QUERY | {"gid": gid})


@pytest.mark.parametrize("table", ["barrier", "dtm_barrier.barrier", "B2"])
def test_table_names(table):
    assert checked_table(table) == table


@pytest.mark.parametrize("table", ["", "a b", "a.b.c", "barrier; DROP TABLE x", "1a", 'a"b', "ä", "x" * 64])
def test_a_table_name_that_could_be_more_is_refused(table):
    with pytest.raises(Invalid, match=r"^table:"):
        checked_table(table)
