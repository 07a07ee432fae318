"""The Python client for DTM from the package index, unchanged, against a started server.

It prints and swallows errors, so every test asks the server how it ended and the participants what
they were called for.
"""

from __future__ import annotations

import pytest

from reefknot.testing.participant import ERROR, FAILURE, OK, ONGOING, Participant
from reefknot.testing.server import ServerProcess
from wire.golden_file import FOLDER, fill, read

dtmcli = pytest.importorskip("dtmcli", reason="install the group 'interop'")

from dtmcli import msg, saga, tcc, utils  # noqa: E402 - only if it is installed

pytestmark = pytest.mark.interop

AMOUNT = {"amount": 30}
BODY = b'{"amount": 30}'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dtmcli")
    quick = {"REEFKNOT_TIMEOUT_TO_FAIL": "2", "REEFKNOT_RETRY_INTERVAL": "1", "REEFKNOT_TRANS_CRON_INTERVAL": "1"}
    with ServerProcess(f"sqlite:///{folder}/store.db", environment=quick, log=folder / "log") as server:
        yield server
        assert server.alive
        assert "request failed" not in server.log_text()


@pytest.fixture
def business():
    with Participant() as business:
        yield business


def made(business, gid):
    """The calls of one transaction: path, op and branch id."""
    return [(call.path, call.op, call.branch_id) for call in business.calls if call.gid == gid]


def transfer(server, business, gid):
    """A saga of two steps, submitted."""
    transfer = saga.Saga(server.url, gid)
    transfer.add(AMOUNT, business.url("/TransOut"), business.url("/TransOutRevert"))
    transfer.add(AMOUNT, business.url("/TransIn"), business.url("/TransInRevert"))
    transfer.submit()


def test_gid_from_the_server(server):
    gids = {utils.gen_gid(server.url) for _ in range(20)}
    assert len(gids) == 20
    assert {len(gid) for gid in gids} == {22}


def test_saga_succeeds(server, business):
    gid = utils.gen_gid(server.url)
    transfer(server, business, gid)
    assert server.wait_for(gid, "succeed") == "succeed"
    assert made(business, gid) == [("/TransOut", "action", "01"), ("/TransIn", "action", "02")]
    assert [call.body for call in business.calls] == [BODY, BODY]
    assert server.branches(gid) == ["prepared", "succeed"] * 2


def test_saga_rolls_back(server, business):
    business.always("/TransIn", FAILURE)
    gid = utils.gen_gid(server.url)
    transfer(server, business, gid)
    assert server.wait_for(gid, "failed") == "failed"
    assert made(business, gid) == [
        ("/TransOut", "action", "01"),
        ("/TransIn", "action", "02"),
        ("/TransInRevert", "compensate", "02"),
        ("/TransOutRevert", "compensate", "01"),
    ]


def test_saga_waits_for_a_participant_that_is_still_at_work(server, business):
    business.script("/TransIn", [ONGOING, ERROR, OK])
    gid = utils.gen_gid(server.url)
    transfer(server, business, gid)
    assert server.wait_for(gid, "succeed") == "succeed"
    assert made(business, gid).count(("/TransIn", "action", "02")) == 3


def test_saga_submitted_twice_runs_once(server, business):
    gid = utils.gen_gid(server.url)
    transfer(server, business, gid)
    transfer(server, business, gid)
    server.wait_for(gid, "succeed")
    transfer(server, business, gid)
    assert len(made(business, gid)) == 2


def test_saga_with_the_gid_of_another_is_refused(server, business):
    gid = utils.gen_gid(server.url)
    transfer(server, business, gid)
    other = saga.Saga(server.url, gid)
    other.add({"amount": 31}, business.url("/TransOut"), business.url("/TransOutRevert"))
    with pytest.raises(utils.DTMFailureError):
        other.submit()
    assert server.wait_for(gid, "succeed") == "succeed"


def call_both(business):
    """What a user of TCC writes: two branches."""

    def branches(transaction):
        for side in ("Out", "In"):
            urls = [business.url(f"/Trans{side}{op}") for op in ("Try", "Confirm", "Cancel")]
            transaction.call_branch(AMOUNT, *urls)

    return branches


def test_tcc_succeeds(server, business):
    gid = utils.gen_gid(server.url)
    assert tcc.tcc_global_transaction(server.url, gid, call_both(business)) == gid
    assert server.wait_for(gid, "succeed") == "succeed"
    calls = made(business, gid)
    assert calls[:2] == [("/TransOutTry", "try", "01"), ("/TransInTry", "try", "02")]
    assert sorted(calls[2:]) == [("/TransInConfirm", "confirm", "02"), ("/TransOutConfirm", "confirm", "01")]
    assert [call.body for call in business.calls] == [BODY] * 4


def test_tcc_rolls_back(server, business):
    business.always("/TransInTry", FAILURE)
    gid = utils.gen_gid(server.url)
    assert tcc.tcc_global_transaction(server.url, gid, call_both(business)) == ""
    assert server.wait_for(gid, "failed") == "failed"
    calls = made(business, gid)
    assert calls[:2] == [("/TransOutTry", "try", "01"), ("/TransInTry", "try", "02")]
    assert sorted(calls[2:]) == [("/TransInCancel", "cancel", "02"), ("/TransOutCancel", "cancel", "01")]


def test_tcc_whose_client_dies_is_rolled_back(server, business):
    """Killed in phase one: neither submit nor abort is ever sent."""
    gid = utils.gen_gid(server.url)

    class Killed(BaseException):
        pass

    class Dead(tcc.Tcc):
        def call_branch(self, *arguments):
            super().call_branch(*arguments)
            raise Killed

    started = Dead(server.url, gid)
    assert server.post("prepare", {"gid": gid, "trans_type": "tcc"}).status == 200
    with pytest.raises(Killed):
        call_both(business)(started)
    assert server.wait_for(gid, "failed") == "failed"
    assert made(business, gid) == [("/TransOutTry", "try", "01"), ("/TransOutCancel", "cancel", "01")]
    reason = server.get("query", gid=gid).json()["transaction"]["rollback_reason"]
    assert reason == "Timeout after 2 seconds"


def commits(barrier):
    """Local work that succeeds without a database."""
    assert (barrier.branch_id, barrier.op) == ("00", "msg")


def letter(server, business, gid):
    """A message with one receiver."""
    return msg.Msg(server.url, gid).add(AMOUNT, business.url("/TransIn"))


def test_msg_prepared_and_submitted(server, business):
    gid = utils.gen_gid(server.url)
    message = letter(server, business, gid)
    message.prepare(business.url("/Query"))
    assert server.status(gid) == "prepared"
    assert made(business, gid) == []
    message.submit()
    assert server.wait_for(gid, "succeed") == "succeed"
    assert made(business, gid) == [("/TransIn", "action", "01")]


def test_msg_waits_for_the_result(server, business):
    gid = utils.gen_gid(server.url)
    letter(server, business, gid).set_wait_result().submit()
    assert server.status(gid) == "succeed"


def test_msg_of_a_dead_sender_that_committed(server, business):
    gid = utils.gen_gid(server.url)
    letter(server, business, gid).prepare(business.url("/Query"))
    assert server.wait_for(gid, "succeed") == "succeed"
    assert made(business, gid) == [("/Query", "msg", "00"), ("/TransIn", "action", "01")]


def test_msg_of_a_dead_sender_that_did_not_commit(server, business):
    business.always("/Query", FAILURE)
    gid = utils.gen_gid(server.url)
    letter(server, business, gid).prepare(business.url("/Query"))
    assert server.wait_for(gid, "failed") == "failed"
    assert made(business, gid) == [("/Query", "msg", "00")]


def test_msg_do_and_submit(server, business):
    gid = utils.gen_gid(server.url)
    letter(server, business, gid).do_and_submit(business.url("/Query"), commits)
    assert server.wait_for(gid, "succeed") == "succeed"
    assert made(business, gid) == [("/TransIn", "action", "01")]


def test_msg_do_and_submit_aborts_when_the_local_work_fails(server, business):
    gid = utils.gen_gid(server.url)

    def refuse(barrier):
        raise utils.DTMFailureError("FAILURE")

    with pytest.raises(utils.DTMFailureError):
        letter(server, business, gid).do_and_submit(business.url("/Query"), refuse)
    assert server.status(gid) == "failed"
    assert made(business, gid) == []


class TestGoldensAreWhatTheClientSends:
    """The client talks to a participant that says what the server would say; its bytes are the golden ones."""

    GID = "golden"

    def golden(self, flow, business):
        names = {"gid": self.GID, "business": business.url("").removeprefix("http://")}
        exchanges = read(FOLDER / "python" / f"{flow}.http").exchanges
        return [one for one in exchanges if one.name != "newGid"], names

    def same(self, flow, business):
        exchanges, names = self.golden(flow, business)
        sent = [call for call in business.calls if call.method == "POST"]
        assert [call.path for call in sent] == [one.head.split(" ")[1].partition("?")[0] for one in exchanges]
        for call, one in zip(sent, exchanges, strict=True):
            assert call.body.decode() == fill(one.body, names)
            ours = [line.partition(": ")[0] for line in one.head.splitlines()[1:]]
            assert list(call.headers) == ours
            assert call.headers["Content-Type"] == "application/json"

    def test_saga(self, business):
        client = saga.Saga(business.url("/api/dtmsvr"), self.GID)
        for side in ("Out", "In"):
            client.add(AMOUNT, business.url(f"/api/Trans{side}"), business.url(f"/api/Trans{side}Revert"))
        client.submit()
        self.same("saga_succeeds", business)

    def test_tcc(self, business):
        def branches(transaction):
            for side in ("Out", "In"):
                urls = [business.url(f"/api/Trans{side}{op}") for op in ("Try", "Confirm", "Revert")]
                transaction.call_branch(AMOUNT, *urls)

        assert tcc.tcc_global_transaction(business.url("/api/dtmsvr"), self.GID, branches) == self.GID
        self.same("tcc_succeeds", business)

    def test_msg(self, business):
        client = msg.Msg(business.url("/api/dtmsvr"), self.GID).add(AMOUNT, business.url("/api/TransIn"))
        client.do_and_submit(business.url("/api/Query"), commits)
        self.same("msg_succeeds", business)
