"""Every mode through the client, over every protocol and on both faces, against a real server."""

# ruff: noqa: PT012 - the block itself is under test: how it is left decides

import json

import pytest

from reefknot import Failure, GidConflict, Invalid, NotFound, Ongoing, Refused, RolledBack
from reefknot.model import Status
from reefknot.testing import grpc_participant
from reefknot.testing.grpc_participant import GrpcParticipant
from reefknot.testing.participant import FAILURE, ONGOING, Participant, Say
from reefknot.testing.server import LocalServer
from sdk.client_faces import FACES, PROTOCOLS, open_client, server_url


@pytest.fixture(scope="module")
def server():
    with LocalServer(grpc=True) as server:
        yield server


@pytest.fixture(params=[f"{face}-{protocol}" for face in FACES for protocol in PROTOCOLS])
def client(request, server):
    face, _, protocol = request.param.partition("-")
    with open_client(face, server_url(server, protocol)) as client:
        client.protocol = protocol
        yield client


@pytest.fixture(params=FACES)
def http_client(request, server):
    with open_client(request.param, server_url(server, "http")) as client:
        yield client


@pytest.fixture
def bank():
    with Participant() as bank:
        yield bank


def ops(bank):
    """What the bank was called for, in the order of arrival."""
    return [(call.path, call.op, call.branch_id) for call in bank.calls]


def test_saga_runs_its_steps_in_order(client, bank):
    with client.saga(wait=True) as saga:
        saga.step(bank.url("/out"), bank.url("/out/undo"), {"amount": 30})
        saga.step(bank.url("/in"), bank.url("/in/undo"), {"amount": 31})
    assert saga.outcome.status is Status.SUCCEED
    assert ops(bank) == [("/out", "action", "01"), ("/in", "action", "02")]
    assert [json.loads(call.body) for call in bank.calls] == [{"amount": 30}, {"amount": 31}]
    assert {call.gid for call in bank.calls} == {saga.gid}


def test_refused_saga_is_rolled_back_and_says_why(client, bank):
    bank.always("/in", Say(409, b'{"dtm_result":"FAILURE","message":"account closed"}'))
    with pytest.raises(RolledBack, match="account closed") as caught, client.saga(wait=True) as saga:
        saga.add(bank.url("/out"), bank.url("/out/undo"), {"amount": 30}).add(bank.url("/in"), bank.url("/in/undo"))
    assert caught.value.gid == saga.gid
    assert caught.value.gid in str(caught.value)
    assert (caught.value.reason, caught.value.url) == ("account closed", bank.url("/in"))
    assert client.wait(saga.gid).status is Status.FAILED
    assert ("/out/undo", "compensate", "01") in ops(bank)


def test_unfinished_saga_with_wait_is_ongoing_and_never_rolled_back(client, bank):
    bank.always("/out", ONGOING)
    with pytest.raises(Ongoing) as caught, client.saga(wait=True, request_timeout=1) as saga:
        saga.step(bank.url("/out"), bank.url("/undo"))
    assert caught.value.gid == saga.gid
    assert client.get(saga.gid).status is Status.SUBMITTED


def test_block_that_raises_sends_nothing(client, bank):
    with pytest.raises(KeyError), client.saga() as saga:
        saga.step(bank.url("/out"))
        raise KeyError("no such order")
    assert client.get(saga.gid) is None
    assert bank.calls == []


def test_concurrent_saga_keeps_the_order_of_after(client, bank):
    bank.script("/pay", [Say(seconds=0.2)])
    with client.saga(wait=True, concurrent=True) as saga:
        pay = saga.step(bank.url("/pay"))
        stock = saga.step(bank.url("/stock"))
        saga.step(bank.url("/ship"), after=[pay, stock])
    calls = {call.path: call for call in bank.calls}
    assert calls["/stock"].started < calls["/pay"].ended
    assert calls["/ship"].started >= calls["/pay"].ended


def test_step_of_another_saga_is_no_predecessor(http_client, bank):
    other = http_client.saga().step(bank.url("/a"))
    with pytest.raises(Invalid, match="after"):
        http_client.saga(concurrent=True).step(bank.url("/b"), after=other)


def test_repeated_submit_starts_nothing_twice(client, bank):
    saga = client.saga(wait=True)
    saga.step(bank.url("/out"))
    saga.submit()
    saga.submit()
    assert ops(bank) == [("/out", "action", "01")]


def test_gid_with_other_content_is_a_conflict(client, bank):
    first = client.saga()
    first.step(bank.url("/out"))
    first.submit()
    client.wait(first.gid)
    bank.script("/slow", [Say(seconds=0.5)])
    running = client.saga()
    running.step(bank.url("/slow"))
    running.submit()
    second = client.saga(running.gid, wait=True)
    second.step(bank.url("/other"))
    with pytest.raises(GidConflict) as caught:
        second.submit()
    assert caught.value.gid == running.gid
    third = client.saga(first.gid, wait=True)
    third.step(bank.url("/other"))
    with pytest.raises(Refused) as refused:
        third.submit()
    assert refused.value.status == "succeed"
    assert "/other" not in {call.path for call in bank.calls}


def test_tcc_confirms_when_the_block_ends(client, bank):
    bank.always("/hold", Say(body=b'{"hold":7}'))
    with client.tcc(wait=True) as tcc:
        answer = tcc.try_(
            bank.url("/hold"), confirm=bank.url("/take"), cancel=bank.url("/release"), data={"amount": 30}
        )
    assert answer.json() == {"hold": 7}
    assert tcc.outcome.status is Status.SUCCEED
    assert ops(bank) == [("/hold", "try", "01"), ("/take", "confirm", "01")]
    assert [json.loads(call.body) for call in bank.calls] == [{"amount": 30}] * 2


def test_tcc_cancels_when_a_try_is_refused(client, bank):
    bank.always("/in", FAILURE)
    with pytest.raises(Failure) as caught, client.tcc() as tcc:
        tcc.try_(bank.url("/out"), confirm=bank.url("/out/c"), cancel=bank.url("/out/x"))
        tcc.try_(bank.url("/in"), confirm=bank.url("/in/c"), cancel=bank.url("/in/x"))
    assert (caught.value.gid, caught.value.branch_id, caught.value.url) == (tcc.gid, "02", bank.url("/in"))
    found = client.wait(tcc.gid)
    assert (found.status, found.reason) == (Status.FAILED, caught.value.reason)
    assert {call.op for call in bank.calls} == {"try", "cancel"}


def test_tcc_aborts_with_the_text_of_any_exception(client, bank):
    with pytest.raises(ZeroDivisionError), client.tcc() as tcc:
        tcc.try_(bank.url("/out"), confirm=bank.url("/c"), cancel=bank.url("/x"))
        1 / 0  # noqa: B018 - raises
    found = client.wait(tcc.gid)
    assert (found.status, found.reason) == (Status.FAILED, "ZeroDivisionError: division by zero")


def test_nested_tcc_numbers_its_branches_below_its_parent(client, bank):
    with client.tcc(wait=True) as tcc:
        tcc.try_(bank.url("/agency"), confirm=bank.url("/c"), cancel=bank.url("/x"))
        inner = client.tcc_from({"gid": tcc.gid, "branch_id": "01", "trans_type": "tcc", "op": "try"})
        inner.try_(bank.url("/hotel"), confirm=bank.url("/hotel/c"), cancel=bank.url("/hotel/x"))
        metadata = client.tcc_from({"dtm-gid": tcc.gid, "dtm-branch_id": "0101"})
        metadata.try_(bank.url("/room"), confirm=bank.url("/room/c"), cancel=bank.url("/room/x"))
    assert [call.branch_id for call in bank.calls if call.op == "try"] == ["01", "0101", "010101"]
    assert {call.branch_id for call in bank.calls if call.op == "confirm"} == {"01", "0101", "010101"}


def test_tcc_has_99_branches_on_a_level(http_client, bank):
    with pytest.raises(Invalid, match="99 ids of this transaction are used up"), http_client.tcc() as tcc:
        for _ in range(100):
            tcc.try_(bank.url("/hold"), confirm=bank.url("/take"), cancel=bank.url("/free"))
    assert sorted(call.branch_id for call in bank.calls if call.op == "try") == [f"{n:02d}" for n in range(1, 100)]
    assert http_client.wait(tcc.gid).status is Status.FAILED


def test_xa_commits_its_branches_when_the_block_ends(client, server, bank):
    """The branch registers itself, as a participant's xa does."""

    def prepare(call):
        fields = {"gid": call.gid, "branch_id": call.branch_id, "trans_type": "xa", "url": bank.url("/xa")}
        return None if call.op != "action" or server.post("registerBranch", fields).status == 200 else FAILURE

    bank.business(prepare)
    with client.xa(wait=True) as xa:
        xa.call(bank.url("/xa"), {"amount": 30})
    assert [(call.op, call.branch_id) for call in bank.calls] == [("action", "01"), ("commit", "01")]
    assert json.loads(bank.calls[0].body) == {"amount": 30}


def test_xa_rolls_back_when_the_block_raises(client, server, bank):
    def prepare(call):
        fields = {"gid": call.gid, "branch_id": call.branch_id, "trans_type": "xa", "url": bank.url("/xa")}
        return None if call.op != "action" or server.post("registerBranch", fields).status == 200 else FAILURE

    bank.business(prepare)
    with pytest.raises(Failure, match="no money"), client.xa() as xa:
        xa.call(bank.url("/xa"))
        raise Failure("no money")
    found = client.wait(xa.gid)
    assert found.status is Status.FAILED
    assert [call.op for call in bank.calls] == ["action", "rollback"]


def test_msg_is_sent_to_every_receiver(client, bank):
    outcome = client.msg(wait=True).send(bank.url("/a"), {"n": 1}).add(bank.url("/b")).submit()
    assert outcome.status is Status.SUCCEED
    assert ops(bank) == [("/a", "action", "01"), ("/b", "action", "02")]


def test_msg_is_published_to_the_subscribers_of_a_topic(client, bank):
    topic = f"cancelled-{client.msg().gid}"
    client.subscribe(topic, bank.url("/mail"))
    client.subscribe(topic, bank.url("/stock"), "the shelf")
    client.subscribe(topic, bank.url("/stock"))
    client.msg(wait=True).publish(topic, {"order": 1}).submit()
    assert {call.path for call in bank.calls} == {"/mail", "/stock"}
    client.unsubscribe(topic, bank.url("/mail"))
    client.msg(wait=True).publish(topic).submit()
    assert [call.path for call in bank.calls].count("/mail") == 1
    for missing in ((topic, bank.url("/mail")), ("no-such-topic", bank.url("/mail"))):
        with pytest.raises(NotFound):
            client.unsubscribe(*missing)
    with pytest.raises(NotFound, match="topic not found"):
        client.msg().publish("nobody-listens").submit()


def test_prepared_msg_waits_for_its_submit_and_can_be_dropped(client, bank):
    msg = client.msg(wait=True).send(bank.url("/a"))
    msg.prepare(bank.url("/asked"))
    assert client.get(msg.gid).status is Status.PREPARED
    assert client.get(msg.gid).query_prepared == bank.url("/asked")
    msg.submit()
    assert ops(bank) == [("/a", "action", "01")]
    dropped = client.msg().send(bank.url("/b"))
    dropped.prepare(bank.url("/asked"))
    dropped.abort("changed our minds")
    assert client.get(dropped.gid).status is Status.FAILED
    with pytest.raises(Refused) as caught:
        dropped.submit()
    assert caught.value.status == "failed"


def test_delayed_msg_is_not_sent_before_its_time(client, server, bank):
    msg = client.msg(delay=3600).send(bank.url("/a"))
    msg.submit()
    server.settle()
    assert bank.calls == []
    server.cron(3601)
    assert ops(bank) == [("/a", "action", "01")]


@pytest.mark.conformance("UnitDtmgrpc")
def test_headers_and_options_reach_the_branches(client, bank):
    options = {"request_timeout": 7, "retry_every": 11.2, "timeout": 120, "retry_limit": 3}
    with client.saga(wait=True, headers={"authorization": "token 1"}, **options) as saga:
        saga.step(bank.url("/out"))
    assert {name.lower(): value for name, value in bank.calls[0].headers.items()}["authorization"] == "token 1"
    stored = client.get(saga.gid)
    assert stored.mode == "saga"
    assert stored.created_at.tzinfo is not None


def test_new_gid_comes_from_the_server_and_local_ones_look_alike(client):
    assert len(client.new_gid()) == len(client.saga().gid) == 22


def test_query_pages_through_the_transactions(client, bank):
    for _ in range(3):
        client.msg(wait=True).send(bank.url("/a")).submit()
    first = client.query(status=Status.SUCCEED, mode="msg", limit=2)
    assert len(first.transactions) == 2
    assert {one.mode for one in first.transactions} == {"msg"}
    second = client.query(status="succeed", mode="msg", limit=2, position=first.position)
    assert {one.gid for one in first.transactions}.isdisjoint(one.gid for one in second.transactions)


def test_get_shows_branches_and_nothing_for_an_unknown_gid(client, bank):
    with client.saga(wait=True) as saga:
        saga.step(bank.url("/out"), bank.url("/undo"), {"n": 1})
    found = client.get(saga.gid)
    assert found.ended
    branches = {branch.op: branch for branch in found.branches}
    assert branches["action"].status is Status.SUCCEED
    assert branches["action"].url == bank.url("/out")
    assert json.loads(branches["action"].payload) == {"n": 1}
    assert client.get("nobody") is None


def test_wait_returns_at_the_end_and_says_when_it_is_not_reached(client, bank):
    bank.always("/slow", ONGOING)
    with client.saga() as saga:
        saga.step(bank.url("/slow"))
    with pytest.raises(Ongoing) as caught:
        client.wait(saga.gid, timeout=0.2)
    assert caught.value.gid == saga.gid
    with pytest.raises(NotFound):
        client.wait("nobody", timeout=1)
    client.force_stop(saga.gid)
    assert client.wait(saga.gid, timeout=20).status is Status.FAILED


def test_force_stop_and_retry_now(client, server, bank):
    bank.script("/out", [Say(500)])
    with client.saga() as saga:
        saga.step(bank.url("/out"))
    server.settle()
    client.retry_now(saga.gid)
    server.cron(look_ahead=0)
    assert client.wait(saga.gid).status is Status.SUCCEED
    with pytest.raises(Refused) as caught:
        client.force_stop(saga.gid)
    assert caught.value.status == "succeed"
    for verb in (client.force_stop, client.retry_now):
        with pytest.raises(NotFound):
            verb("nobody")


@pytest.mark.parametrize("face", FACES)
def test_grpc_branches_get_raw_bytes_and_metadata(face, server):
    with GrpcParticipant() as bank, open_client(face, server_url(server, "grpc")) as client:
        with client.saga(wait=True) as saga:
            saga.step(bank.url("/bank.Bank/Out"), bank.url("/bank.Bank/Undo"), b"\x08\x1e\xff")
        with client.tcc(wait=True) as tcc:
            tcc.try_(
                bank.url("/bank.Bank/Hold"),
                confirm=bank.url("/bank.Bank/Take"),
                cancel=bank.url("/bank.Bank/Free"),
                data=b"\xff",
            )
        assert [(call.op, call.gid, call.body) for call in bank.calls] == [
            ("action", saga.gid, b"\x08\x1e\xff"),
            ("try", tcc.gid, b"\xff"),
            ("confirm", tcc.gid, b"\xff"),
        ]
        bank.always("/bank.Bank/Hold", grpc_participant.FAILURE)
        with pytest.raises(Failure, match="refused"), client.tcc() as tcc:
            tcc.try_(bank.url("/bank.Bank/Hold"), confirm=bank.url("/b.B/C"), cancel=bank.url("/b.B/X"))
        bank.always("/bank.Bank/Hold", grpc_participant.ONGOING)
        with pytest.raises(Ongoing, match="not yet"), client.tcc() as tcc:
            tcc.try_(bank.url("/bank.Bank/Hold"), confirm=bank.url("/b.B/C"), cancel=bank.url("/b.B/X"))


def test_http_saga_may_have_grpc_steps(http_client):
    with GrpcParticipant() as bank:
        with http_client.saga(wait=True) as saga:
            saga.step(bank.url("/bank.Bank/Out"), "", {"amount": 30})
        assert [call.op for call in bank.calls] == ["action"]
        with pytest.raises(Invalid, match=r"confirm.*grpc://"), http_client.tcc() as tcc:
            tcc.try_("http://h/t", confirm=bank.url("/b.B/C"), cancel="http://h/x")
    assert http_client.get(saga.gid).protocol == "grpc"
