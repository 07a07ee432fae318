"""Listings of transactions whose branches were registered one by one and have been driven."""

from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer


def test_listing_shows_a_driven_tcc_beside_others():
    with LocalServer() as server, Participant() as bank:
        server.post("prepare", {"gid": "t", "trans_type": "tcc"})
        fields = {"branch_id": "01", "data": "{}", "confirm": bank.url("/confirm"), "cancel": bank.url("/cancel")}
        server.post("registerBranch", {"gid": "t", "trans_type": "tcc", **fields})
        server.post("submit", {"gid": "t", "trans_type": "tcc", "wait_result": True})
        step = {"action": bank.url("/a"), "compensate": ""}
        saga = {"gid": "s", "trans_type": "saga", "steps": [step], "payloads": ["{}"], "wait_result": True}
        server.post("submit", saga)
        answer = server.get("all")
    assert answer.status == 200
    assert [(one["gid"], one["status"]) for one in answer.json()["transactions"]] == [
        ("s", "succeed"),
        ("t", "succeed"),
    ]
