"""A gid belongs to the mode it was made with: nobody who takes it for another mode changes anything."""

from itertools import permutations

import pytest

MODES = ("saga", "msg", "tcc", "xa", "workflow")


@pytest.fixture
def bodies(app):
    """For each mode a complete request, each with a gid of its own."""
    return {
        "saga": app.saga(),
        "msg": app.msg(),
        "tcc": {"gid": app.server.new_gid(), "trans_type": "tcc"},
        "xa": {"gid": app.server.new_gid(), "trans_type": "xa"},
        "workflow": {
            "gid": app.server.new_gid(),
            "trans_type": "workflow",
            "query_prepared": app.bank.url("/workflow/resume"),
            "custom_data": '{"name":"transfer","data":""}',
        },
    }


@pytest.mark.parametrize(("mode", "other"), list(permutations(MODES, 2)))
def test_a_request_for_another_mode_changes_nothing(app, bank, server, bodies, mode, other):
    gid = app.prepare(bodies[mode]) if mode != "workflow" else bodies[mode]["gid"]
    if mode == "workflow":
        assert app.post("prepareWorkflow", bodies[mode]).status == 200
    elif mode == "tcc":
        assert app.register_tcc(gid, "TransOut", "01").status == 200
    elif mode == "xa":
        assert app.register_xa(gid, "TransOut", "01").status == 200
    before = server.get("query", gid=gid).json()
    wrong = {**bodies[other], "gid": gid}
    asked = [("submit", wrong)]
    if other == "workflow":
        asked = [("submit", {**wrong, "req_extra": {"status": status}}) for status in ("succeed", "failed")]
        asked.append(("prepareWorkflow", wrong))
    else:
        asked.append(("prepare", wrong))
    if mode != "saga":
        asked.append(("abort", {"gid": gid, "trans_type": other}))
    for verb, request in asked:
        answer = server.post(verb, request)
        assert (answer.status, answer.json()["dtm_result"]) == (409, "FAILURE"), (verb, answer)
    if other == "tcc":
        assert app.register_tcc(gid, "TransIn", "02").status == 409
    elif other == "xa":
        assert app.register_xa(gid, "TransIn", "02").status == 409
    server.settle()
    assert server.get("query", gid=gid).json() == before
    assert app.called(gid) == []
