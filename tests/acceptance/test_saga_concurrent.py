"""Sagas whose steps run at once or by a graph."""

import json

import pytest

from reefknot.testing.participant import FAILURE, ONGOING

#: Every row through both doors.
pytestmark = pytest.mark.parametrize("app", ["http", "json-rpc"], indirect=True)


def concurrent(app, **orders):
    """A saga of two steps as the client sends it after SetConcurrent, with the orders it was given."""
    custom = {"concurrent": True, "orders": orders}
    return app.saga(concurrent=True, custom_data=json.dumps(custom))


@pytest.mark.conformance("TestSagaConNormal")
def test_saga_con_normal(app):
    gid = app.submit(concurrent(app))
    assert app.state(gid) == ("succeed", "PSPS")
    assert sorted(app.called(gid)) == ["/TransIn", "/TransOut"]


@pytest.mark.conformance("TestSagaConRollbackNormal")
def test_saga_con_rollback_normal(app, bank):
    bank.script("/TransOut", [FAILURE])
    bank.script("/TransOutRevert", [ONGOING])
    gid = app.submit(concurrent(app))
    assert app.state(gid)[0] == "aborting"
    app.cron(gid)
    assert app.state(gid) == ("failed", "SFSS")


@pytest.mark.deviation("Q29")
@pytest.mark.conformance("TestSagaConRollbackOrder")
def test_saga_con_rollback_order(app, bank):
    bank.script("/TransOut", [FAILURE])
    gid = app.submit(concurrent(app, **{"1": [0]}))
    assert app.state(gid) == ("failed", "SFPP")
    assert app.called(gid) == ["/TransOut", "/TransOutRevert"]


@pytest.mark.conformance("TestSagaConRollbackOrder2")
def test_saga_con_rollback_order2(app, bank):
    bank.script("/TransIn", [FAILURE])
    gid = app.submit(concurrent(app, **{"1": [0]}))
    assert app.state(gid) == ("failed", "SSSF")
    assert app.called(gid) == ["/TransOut", "/TransIn", "/TransInRevert", "/TransOutRevert"]


@pytest.mark.conformance("TestSagaConCommittedOngoing")
def test_saga_con_committed_ongoing(app, bank):
    bank.script("/TransOut", [ONGOING])
    gid = app.submit(concurrent(app))
    assert app.state(gid) == ("submitted", "PPPS")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "PSPS")
    assert app.called(gid).count("/TransIn") == 1
