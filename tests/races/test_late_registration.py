"""A branch that is registered while a driver is about to roll the transaction back is rolled back too."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from reefknot.failpoints import Failpoints
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer

URLS = {"tcc": ("confirm", "cancel"), "xa": ("url",)}


@pytest.mark.parametrize(("mode", "undo"), [("tcc", "cancel"), ("xa", "rollback")])
def test_branch_registered_when_the_time_limit_was_noticed(mode, undo):
    server = LocalServer()
    server.failpoints = Failpoints({"timeout.detected": "sleep:1"})
    with Participant() as participant, server, ThreadPoolExecutor(1) as background:
        gid = f"late-{mode}"

        def register(branch_id):
            urls = {key: participant.url(f"/{key}") for key in URLS[mode]}
            branch = {"gid": gid, "trans_type": mode, "branch_id": branch_id, **urls}
            return server.post("registerBranch", branch).status

        assert server.post("prepare", {"gid": gid, "trans_type": mode, "timeout_to_fail": 10}).status == 200
        assert register("01") == 200
        recovery = background.submit(server.cron, 10)
        while not server.failpoints.hits.get("timeout.detected"):
            assert not recovery.done()
        assert register("02") == 200
        assert recovery.result() == [gid]
        assert server.status(gid) == "failed"
        assert {(call.branch_id, call.op) for call in participant.calls} == {("01", undo), ("02", undo)}
        assert register("03") == 409
