"""Messages around a local transaction: what the server sees of a sender with a barrier.

The sender's side, a table in its own database that answers the query-back, belongs to a client. Here
a small database of the sender stands for it, so that the answers are not invented.
"""

import sqlite3

import pytest

from reefknot.testing.participant import FAILURE, OK

#: Every row through both doors.
pytestmark = pytest.mark.parametrize("app", ["http", "json-rpc"], indirect=True)

PART = "the requests of the sender in the order of its client; the barrier is the client's"


class Sender:
    """An account in a database of its own, and the marker that says whether a message's work was committed."""

    def __init__(self, app, directory):
        self.path = directory / "sender.db"
        with self.open() as db:
            db.execute("CREATE TABLE account (amount INT CHECK (amount >= 0))")
            db.execute("INSERT INTO account VALUES (100)")
            db.execute("CREATE TABLE marker (gid TEXT PRIMARY KEY, reason TEXT)")
        app.bank.on("/QueryPrepared", lambda call: OK if self.committed(call.gid) else FAILURE)

    def open(self):
        return sqlite3.connect(self.path)

    def pay(self, gid, amount=30):
        """The local transaction; False if it did not happen, for example because there is too little money."""
        try:
            with self.open() as db:
                db.execute("INSERT INTO marker VALUES (?, 'commit')", (gid,))
                db.execute("UPDATE account SET amount = amount - ?", (amount,))
        except sqlite3.IntegrityError:
            return False
        return True

    def committed(self, gid):
        """The query-back: a marker is left if there is none, so that a late local transaction fails."""
        with self.open() as db:
            db.execute("INSERT OR IGNORE INTO marker VALUES (?, 'rollback')", (gid,))
            [reason] = db.execute("SELECT reason FROM marker WHERE gid = ?", (gid,)).fetchone()
        return reason == "commit"

    @property
    def amount(self):
        with self.open() as db:
            return db.execute("SELECT amount FROM account").fetchone()[0]


@pytest.fixture
def sender(app, tmp_path):
    return Sender(app, tmp_path)


@pytest.mark.conformance("TestMsgDoAndSubmit", part=PART)
def test_msg_do_and_submit(app, sender):
    body = app.msg("/TransIn")
    gid = app.prepare(body)
    assert sender.pay(gid)
    app.submit(body)
    assert app.state(gid) == ("succeed", "S")
    assert (sender.amount, app.called(gid)) == (70, ["/TransIn"])


@pytest.mark.conformance("TestMsgDoAndSubmitBusiFailed", part=PART)
def test_msg_do_and_submit_busi_failed(app, sender, server):
    body = app.msg("/TransIn")
    gid = app.prepare(body)
    assert not sender.pay(gid, amount=1000)
    assert app.post("abort", body).status == 200
    assert app.state(gid) == ("failed", "P")
    assert app.post("submit", body).status == 409
    assert (sender.amount, app.called(gid)) == (100, [])


@pytest.mark.conformance("TestMsgDoAndSubmitBusiLater", part=PART)
def test_msg_do_and_submit_busi_later(app, sender, server):
    body = app.msg("/TransIn")
    gid = app.prepare(body)
    app.cron(gid, plus=60)
    assert app.state(gid) == ("failed", "P")
    assert not sender.pay(gid)
    assert app.post("submit", body).status == 409
    assert (sender.amount, app.called(gid)) == (100, ["/QueryPrepared"])


@pytest.mark.conformance("TestMsgDoAndSubmitCommitFailed", part=PART)
def test_msg_do_and_submit_commit_failed(app, sender, server):
    body = app.msg("/TransIn")
    gid = app.prepare(body)
    assert not sender.pay(gid, amount=1000)
    assert not sender.committed(gid)  # the client asks itself first
    assert app.post("abort", body).status == 200
    assert app.state(gid) == ("failed", "P")
    assert sender.amount == 100


@pytest.mark.conformance("TestMsgDoAndSubmitCommitAfterFailed", part=PART)
def test_msg_do_and_submit_commit_after_failed(app, sender):
    gid = app.prepare(app.msg("/TransIn"))
    assert sender.pay(gid)  # and the client never learns it: it neither submits nor aborts
    app.cron(gid, plus=60)
    assert app.state(gid) == ("succeed", "S")
    assert (sender.amount, app.called(gid)) == (70, ["/QueryPrepared", "/TransIn"])
