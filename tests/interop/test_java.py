"""The released Java client for DTM (dtmcli-java 2.1.4), in a small bank on MariaDB with the client's barrier.

It has saga and TCC; message, XA and workflow are not in it.
"""

from __future__ import annotations

import re
import secrets

import pytest

from interop.bank import AMOUNT, MOVED, REFUSED, UNMOVED, MariaDbBank, Pair
from interop.peers import HERE, Peer, build, toolchain
from reefknot.testing.participant import Participant
from reefknot.testing.server import ServerProcess
from wire.golden_file import FOLDER, read

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def classpath():
    toolchain("java mvn", "apt-get install default-jdk-headless maven")
    folder = HERE / "java"
    command = ["mvn", "-q", "-B", "compile", "dependency:build-classpath", "-Dmdep.outputFile=target/classpath"]
    build(command, folder)
    return f"{folder / 'target' / 'classes'}:{(folder / 'target' / 'classpath').read_text()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("java")
    quick = {"REEFKNOT_TIMEOUT_TO_FAIL": "4", "REEFKNOT_RETRY_INTERVAL": "1", "REEFKNOT_TRANS_CRON_INTERVAL": "1"}
    with ServerProcess(f"sqlite:///{folder}/store.db", environment=quick, log=folder / "log") as server:
        yield server
        assert server.alive
        assert "request failed" not in server.log_text()


@pytest.fixture(scope="module")
def bank(mariadb):
    bank = MariaDbBank(mariadb.create_database(f"java_{secrets.token_hex(6)}"))
    yield bank
    bank.close()


@pytest.fixture(scope="module")
def start(classpath, bank, tmp_path_factory):
    """Makes a program that uses the server of that URL."""

    def made(url):
        jdbc = f"jdbc:mariadb://{bank.address}/{bank.database}?user={bank.user}&password={bank.password}"
        address = url.removeprefix("http://").partition("/")[0]
        # A small heap and the quick compiler: it runs a dozen requests.
        command = ["java", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", classpath, "interop.Main", address, jdbc]
        return Peer(command, tmp_path_factory.mktemp("java") / "log")

    return made


@pytest.fixture(scope="module")
def peer(start, server):
    with start(server.url) as peer:
        yield peer


class Story:
    """A case with the accounts it moves money between."""

    def __init__(self, peer, server, bank, *, taker_exists=True):
        self.server, self.bank = server, bank
        self.pair = Pair(bank, bank, taker_exists=taker_exists)
        self._peer = peer

    def run(self, case):
        result = self._peer.run(case, gid=f"java-{secrets.token_hex(6)}", amount=AMOUNT, **self.pair.query())
        self.gid = result.gid
        return result

    def ends(self, status, money):
        assert self.server.wait_for(self.gid, "succeed", "failed") == status
        assert self.pair.money() == money


@pytest.fixture
def transfer(peer, server, bank):
    return Story(peer, server, bank)


@pytest.fixture
def refused(peer, server, bank):
    """The account that shall get the money does not exist."""
    return Story(peer, server, bank, taker_exists=False)


SAGAS = ["saga", "saga_concurrent", "saga_order", "saga_wait"]


@pytest.mark.parametrize("case", SAGAS)
def test_saga_succeeds(transfer, case):
    assert transfer.run(case).error == ""
    transfer.ends("succeed", MOVED)
    assert sorted(transfer.bank.barriers(transfer.gid)) == [("01", "action", "action"), ("02", "action", "action")]


@pytest.mark.parametrize("case", SAGAS)
def test_saga_rolls_back(refused, case):
    error = refused.run(case).error
    assert bool(error) == (case == "saga_wait"), error
    refused.ends("failed", REFUSED)


def test_saga_in_order(transfer):
    transfer.run("saga_order")
    transfer.ends("succeed", MOVED)
    assert [branch for branch, _, _ in transfer.bank.barriers(transfer.gid)] == ["02", "01"]


def test_gid_from_the_server(transfer):
    assert len(transfer.run("saga_gid_of_the_server").gid) == 22
    transfer.ends("succeed", MOVED)


def test_a_call_that_is_repeated_does_nothing(transfer, peer):
    transfer.run("saga")
    transfer.ends("succeed", MOVED)
    for branch, account, amount in (("01", transfer.pair.giving, -AMOUNT), ("02", transfer.pair.taking, AMOUNT)):
        names = {"gid": transfer.gid, "trans_type": "saga", "branch_id": branch, "op": "action"}
        status, answer = peer.post("/bank/action", {"account": account, "amount": amount}, **names)
        assert (status, answer) == (200, {"dtm_result": "SUCCESS"})
    assert transfer.pair.money() == MOVED


def test_tcc_succeeds(transfer):
    assert transfer.run("tcc").error == ""
    transfer.ends("succeed", MOVED)
    rows = [("01", "confirm"), ("01", "try"), ("02", "confirm"), ("02", "try")]
    assert sorted((branch, op) for branch, op, _ in transfer.bank.barriers(transfer.gid)) == rows


def test_tcc_rolls_back(refused):
    assert "FailureException" in refused.run("tcc").error
    refused.ends("failed", REFUSED)


def test_tcc_try_that_comes_after_its_cancel(transfer):
    """The transaction times out while the second try is under way; that try then finds the door shut."""
    assert transfer.run("tcc_late_try").error
    transfer.ends("failed", UNMOVED)
    rows = transfer.bank.barriers(transfer.gid)
    assert sorted(row for row in rows if row[0] == "02") == [("02", "cancel", "cancel"), ("02", "try", "cancel")]


def skeleton(body):
    """A JSON text without the values that differ between two businesses: layout, names and numbers stay."""
    return re.sub(r'"(?:[^"\\]|\\.)*"( :)?', lambda found: found[0] if found[1] else "text", body)


@pytest.mark.parametrize(("case", "flow"), [("saga", "saga_succeeds"), ("tcc", "tcc_rolls_back")])
def test_goldens_are_what_the_client_sends(start, bank, case, flow):
    """The client talks to a participant that says what the server would say."""
    pair = Pair(bank, bank, taker_exists=False)
    with Participant() as recorder, start(recorder.url("")) as peer:
        said = peer.run(case, gid=f"golden-{secrets.token_hex(6)}", amount=AMOUNT, **pair.query())
    assert bool(said.error) == (case == "tcc")
    exchanges = [one for one in read(FOLDER / "java" / f"{flow}.http").exchanges if not one.to_business]
    golden = [one for one in exchanges if one.name != "newGid"]
    assert [call.path for call in recorder.calls] == [one.head.split(" ")[1] for one in golden]
    for call, one in zip(recorder.calls, golden, strict=True):
        assert skeleton(call.body.decode()) == skeleton(one.body)
        assert list(call.headers) == [line.partition(": ")[0] for line in one.head.splitlines()[1:]]
