"""The demo's bank alone: what a branch answers, whatever it is sent."""

import os
import sys
import urllib.error
import urllib.request
from urllib.parse import urlencode

import pytest

from reefknot.demo.audit import Books, read_books
from reefknot.demo.processes import Processes, free_ports
from reefknot.demo.signals import StopSignals

IDENTITY = {"trans_type": "saga", "gid": "g1", "branch_id": "01", "op": "action"}
ORDER = '{"account": "alice", "amount": 30}'


class Bank:
    def __init__(self, place):
        (self.port,) = free_ports(1)
        self.database = place / "bank.db"
        options = ["--account", "alice=100", "--account", "carol=50", "--closed", "carol"]
        self.command = [
            "-m",
            "reefknot.demo.bank",
            "--database",
            str(self.database),
            "--port",
            str(self.port),
            *options,
        ]

    def send(self, path: str, body: str = ORDER, **identity: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}{path}?{urlencode(IDENTITY | identity)}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/balance", timeout=20):
                return True
        except OSError:
            return False

    @property
    def books(self) -> Books:
        return read_books([self.database])

    @property
    def alice(self) -> int:
        return self.books.balances["alice"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    place = tmp_path_factory.mktemp("bank")
    bank = Bank(place)
    with StopSignals() as signals, Processes() as processes:
        processes.start("bank", [sys.executable, *bank.command], os.environ, place / "log")
        while not bank.answers():
            assert processes.ended("bank") is None
            signals.sleep()
        yield bank


def test_out_and_back(bank):
    assert [bank.send("/out"), bank.send("/out")] == [(200, "run"), (200, "repeated")]
    assert bank.alice == 70
    undo = [bank.send("/out/undo", op="compensate") for _ in range(2)]
    assert undo == [(200, "run"), (200, "repeated")]
    assert bank.alice == 100
    assert bank.books.of("g1") == [("01", "action"), ("01", "compensate")]


def test_an_undo_that_comes_first_keeps_its_action_out(bank):
    assert bank.send("/in/undo", gid="g2", op="compensate") == (200, "nothing to undo")
    assert bank.send("/in", gid="g2") == (200, "too late")
    assert bank.alice == 100


def test_an_undo_may_overdraw(bank):
    assert bank.send("/in", gid="g3") == (200, "run")
    assert bank.send("/out", '{"account": "alice", "amount": 120}', gid="g4") == (200, "run")
    assert bank.send("/in/undo", gid="g3", op="compensate") == (200, "run")
    assert bank.alice == -20
    assert bank.send("/in", '{"account": "alice", "amount": 120}', gid="g5") == (200, "run")
    assert bank.alice == 100


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"account": "alice", "amount": 101}', "alice has not enough money"),
        ('{"account": "carol", "amount": 1}', "carol's account is closed"),
        ('{"account": "nobody", "amount": 1}', "no account nobody"),
        ('{"account": "alice", "amount": -1}', "the order is no good: Expected `int` >= 1"),
        ('{"account": "alice", "amount": 99999999999999999999}', "the order is no good"),
        ('{"account": "alice"}', "the order is no good: Object missing required field `amount`"),
        ("not JSON", "the order is no good"),
        ("", "the order is no good"),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(bank, body, why, request):
    gid = request.node.name[:128].replace("\n", " ").replace(";", " ")
    status, text = bank.send("/out", body, gid=gid)
    assert status == 409
    assert text.startswith(why)
    assert bank.send("/out/undo", body, gid=gid, op="compensate") == (200, "nothing to undo")
    assert bank.books.of(gid) == []
    assert bank.alice == 100


def test_a_call_without_its_identity_is_refused(bank):
    assert bank.send("/out", gid="") == (
        400,
        "gid: is missing in the query; the server appends it to every branch call",
    )
    assert bank.send("/out", gid="x" * 129)[0] == 400
    assert bank.alice == 100
