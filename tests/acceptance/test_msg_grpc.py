"""Messages over gRPC: delivered, asked back, sent around a local transaction."""

import pytest

from acceptance.test_msg_barrier import Sender
from reefknot.testing.participant import FAILURE, ONGOING

PART = "the requests of the sender in the order of its client; the barrier is the client's"


@pytest.fixture
def sender(grpc_app, tmp_path):
    return Sender(grpc_app, tmp_path)


@pytest.mark.conformance("TestMsgGrpcNormal")
def test_msg_grpc_normal(grpc_app):
    gid = grpc_app.submit(grpc_app.msg())
    assert grpc_app.state(gid) == ("succeed", "SS")
    assert grpc_app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestMsgGrpcTimeoutSuccess", differs="the ongoing target does not hold the other one")
def test_msg_grpc_timeout_success(grpc_app, grpc_bank):
    gid = grpc_app.prepare(grpc_app.msg())
    grpc_bank.script("/QueryPrepared", [ONGOING])
    grpc_app.cron(gid, plus=180)
    assert grpc_app.state(gid) == ("prepared", "PP")
    grpc_bank.script("/TransOut", [ONGOING])
    grpc_app.cron(gid, plus=180)
    assert grpc_app.state(gid)[0] == "submitted"
    grpc_app.cron(gid)
    assert grpc_app.state(gid) == ("succeed", "SS")
    query = grpc_bank.calls[0]
    assert (query.branch_id, query.op, query.mode, query.body) == ("00", "msg", "msg", b"")


@pytest.mark.conformance("TestMsgGrpcTimeoutFailed")
def test_msg_grpc_timeout_failed(grpc_app, grpc_bank):
    gid = grpc_app.prepare(grpc_app.msg())
    grpc_bank.script("/QueryPrepared", [ONGOING, FAILURE])
    grpc_app.cron(gid, plus=180)
    assert grpc_app.state(gid) == ("prepared", "PP")
    grpc_app.cron(gid, plus=180)
    assert grpc_app.state(gid) == ("failed", "PP")
    assert grpc_app.called(gid) == ["/QueryPrepared"] * 2


def test_a_msg_over_grpc_goes_to_every_subscriber_of_a_topic(grpc_app, grpc_bank):
    for path in ("/TransOut", "/TransIn"):
        grpc_app.client.dtm("Subscribe", {"Topic": "grpc_trans", "URL": grpc_bank.url(path)})
    gid = grpc_app.submit(grpc_app.msg("topic://grpc_trans"))
    assert grpc_app.state(gid) == ("succeed", "SS")
    assert grpc_app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestMsgGrpcPrepareAndSubmit", part=PART)
def test_msg_grpc_prepare_and_submit(grpc_app, sender):
    body = grpc_app.msg("/TransIn")
    gid = grpc_app.prepare(body)
    assert sender.pay(gid)
    grpc_app.submit(body)
    assert grpc_app.state(gid) == ("succeed", "S")
    assert (sender.amount, grpc_app.called(gid)) == (70, ["/TransIn"])


@pytest.mark.conformance("TestMsgGrpcPrepareAndSubmitCommitAfterFailed", part=PART)
def test_msg_grpc_prepare_and_submit_commit_after_failed(grpc_app, sender):
    gid = grpc_app.prepare(grpc_app.msg("/TransIn"))
    assert sender.pay(gid)  # and the client never learns it: it neither submits nor aborts
    grpc_app.cron(gid, plus=60)
    assert grpc_app.state(gid) == ("succeed", "S")
    assert (sender.amount, grpc_app.called(gid)) == (70, ["/QueryPrepared", "/TransIn"])


@pytest.mark.conformance("TestMsgGrpcPrepareAndSubmitCommitFailed", part=PART)
def test_msg_grpc_prepare_and_submit_commit_failed(grpc_app, sender):
    body = grpc_app.msg("/TransIn")
    gid = grpc_app.prepare(body)
    assert not sender.pay(gid, amount=1000)
    assert not sender.committed(gid)
    assert grpc_app.post("abort", body).status == 200
    assert grpc_app.state(gid) == ("failed", "P")
    assert (sender.amount, grpc_app.called(gid)) == (100, [])
