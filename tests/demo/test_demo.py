"""The demo as a newcomer runs it: a process, real crashes, real files, and nothing left behind."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import reefknot
from reefknot.demo.audit import Books, Entry, find_problems, read_books
from reefknot.demo.processes import Processes, free_ports
from reefknot.demo.signals import StopSignals

pytestmark = [pytest.mark.slow, pytest.mark.crash]

SECONDS = 90
PAGE = Path(reefknot.__file__).parents[2] / "docs/first-transfer.md"


def start(*words: str, place: Path) -> subprocess.Popen:
    """The demo with ``place`` for its temporary files, and with settings that are none of its business."""
    environment = os.environ | {"TMPDIR": str(place), "STORE_DRIVER": "redis", "REEFKNOT_HTTP_PORT": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "reefknot", "demo", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def hangup(action: signal.Handlers) -> Iterator[None]:
    """What a process that is started meanwhile does at SIGHUP; these tests may be running under nohup themselves."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def run(*words: str, place: Path) -> tuple[int, str, str]:
    process = start(*words, place=place)
    said, complained = process.communicate(timeout=SECONDS)
    return process.returncode, said, complained


def running_with(text: str) -> list[str]:
    """The command lines of running processes that contain a text."""
    if Path("/proc/self/cmdline").exists():
        lines = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                lines.append(file.read_text(errors="replace").replace("\0", " "))
    else:
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)
        lines = listed.stdout.splitlines()
    return [line for line in lines if text in line]


def exists(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    place = tmp_path_factory.mktemp("demo")
    started = time.monotonic()
    code, said, complained = run("--json", place=place)
    assert (code, complained) == (0, "")
    return json.loads(said) | {"place": place, "wall_seconds": time.monotonic() - started}


def test_tells_four_stories_with_their_ends(report):
    assert [story["status"] for story in report["stories"]] == ["succeed", "failed", "succeed", "succeed"]
    assert [(story["balances"], story["total"]) for story in report["stories"]] == [
        ({"alice": 70, "bob": 130, "carol": 0}, 200),
        ({"alice": 70, "bob": 130, "carol": 0}, 200),
        ({"alice": 40, "bob": 160, "carol": 0}, 200),
        ({"alice": 10, "bob": 190, "carol": 0}, 200),
    ]
    assert report["problems"] == []
    assert len({story["gid"] for story in report["stories"]}) == 4
    assert report["wall_seconds"] < 60


def test_the_branches_were_called_as_told(report):
    def calls(number: int) -> list[tuple]:
        found = report["stories"][number - 1]["branches"]
        return [(line["branch_id"], line["op"], line["call"], line["status"], line["answers"][-1]) for line in found]

    done = ("01", "action", "east/out", "succeed", "run")
    assert calls(1) == [done, ("02", "action", "west/in", "succeed", "run")]
    assert calls(2) == [
        done,
        ("02", "action", "west/in", "failed", "409 carol's account is closed"),
        ("02", "compensate", "west/in/undo", "succeed", "nothing to undo"),
        ("01", "compensate", "east/out/undo", "succeed", "run"),
    ]
    for number in (3, 4):
        assert calls(number) == [done, ("02", "action", "west/in", "succeed", "repeated")]
        again = report["stories"][number - 1]["branches"][1]
        assert again["answers"][0] == "no answer"
        assert again["tries"] == len(again["answers"]) >= 2
        assert again["milliseconds"] >= 1_500


def test_nothing_is_left(report):
    assert len(report["processes"]) == 5
    assert [pid for pid in report["processes"] if exists(pid)] == []
    assert running_with(str(report["place"])) == []
    assert list(report["place"].iterdir()) == []


def test_without_the_barrier_the_check_fails(tmp_path):
    kept = tmp_path / "kept"
    code, said, _ = run("--json", "--without-barrier", "--keep", str(kept), place=tmp_path)
    report = json.loads(said)
    assert code == 1
    assert not report["ok"]
    assert report["stories"][0]["problems"] == []
    found = "\n".join(report["problems"])
    assert "story 2: there is 170 in all accounts and was 200 at first" in found
    for number in (3, 4):
        gid = report["stories"][number - 1]["gid"]
        assert f"story {number}: branch 02 action of {gid} took effect 2 times" in found
    books = read_books([kept / "east.db", kept / "west.db"])
    assert books.balances == report["stories"][-1]["balances"] == {"alice": 10, "bob": 250, "carol": -30}
    assert running_with(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("moment", "signum"),
    [
        ("Starting", signal.SIGINT),
        ("1  All goes well", signal.SIGTERM),
        ("... west has booked", signal.SIGINT),
        ("... the server is killed", signal.SIGHUP),
    ],
)
def test_stopping_it_leaves_nothing(tmp_path, moment, signum):
    with hangup(signal.SIG_DFL), start(place=tmp_path) as process:
        for line in process.stdout:
            if moment in line:
                process.send_signal(signum)
                break
        _, complained = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signum
    assert complained == f"stopped by {signum.name}; every process is gone\n"
    assert running_with(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_started_with_nohup_it_outlives_the_terminal(tmp_path):
    with hangup(signal.SIG_IGN), start("--json", place=tmp_path) as process:
        time.sleep(1)
        process.send_signal(signal.SIGHUP)
        said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert json.loads(said)["ok"]


def test_a_reader_that_goes_away_ends_it(tmp_path):
    with start(place=tmp_path) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(SECONDS) == 1
        assert "Traceback" not in process.stderr.read()
    assert running_with(str(tmp_path)) == []


def test_a_folder_with_files_is_not_touched(tmp_path):
    (tmp_path / "mine").write_text("x")
    code, _, complained = run("--keep", str(tmp_path), place=tmp_path)
    assert code == 2
    assert "not empty" in complained
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_help_has_examples(tmp_path):
    code, said, _ = run("-h", place=tmp_path)
    assert code == 0
    assert "reefknot demo --keep ./demo --slow" in said


def shape(text: str) -> list[str]:
    """The lines without what differs from run to run: gids, ports, times, and the columns' widths."""
    text = re.sub(r"\b[2-9A-HJ-NP-Za-km-z]{22}\b", "GID", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    text = re.sub(r"[\d.]+ (ms|s)\b", "TIME", text)
    lines = [re.sub(r" {2,}", "  ", line).rstrip() for line in text.splitlines()]
    return [line for line in lines if line and "... waiting for the end" not in line]


def test_the_documentation_shows_what_it_prints(tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    (shown,) = re.findall(r"```console\n\$ reefknot demo\n(.*?)```", page, re.DOTALL)
    code, said, _ = run(place=tmp_path)
    assert code == 0
    assert shape(said) == shape(shown)


@pytest.fixture
def own_place(tmp_path):
    """Two banks and a server as the documentation starts them, on other ports."""
    with Processes() as processes, StopSignals() as signals:
        yield Typed(processes, signals, tmp_path)


class Typed:
    """Does what the documentation says."""

    def __init__(self, processes: Processes, signals: StopSignals, place: Path) -> None:
        shown = re.findall(r"127\.0\.0\.1:(\d+)|port (\d+)", self.section())
        self.ports = dict(zip(sorted({a or b for a, b in shown}), map(str, free_ports(3)), strict=True))
        self._processes, self._signals, self._place = processes, signals, place

    @staticmethod
    def section() -> str:
        return PAGE.read_text(encoding="utf-8").partition("## Do it yourself")[2]

    def text(self) -> str:
        text = self.section()
        for shown, free in self.ports.items():
            text = text.replace(f":{shown}", f":{free}").replace(f"port {shown}", f"port {free}")
        return text

    def start(self) -> None:
        for words in re.findall(r"^\$ ((?:python|reefknot) .*)$", self.text(), re.MULTILINE):
            name = words.split()[0]
            module = words.split()[1:] if name == "python" else ["-m", "reefknot", *words.split()[1:]]
            module = [str(self._place / word) if word.endswith(".db") else word for word in module]
            module += ["--store", f"sqlite:///{self._place}/tm.db"] if name == "reefknot" else []
            environment = {**os.environ, "GRPC_PORT": "0"}
            self._processes.start(words, [sys.executable, *module], environment, self._place / "log")
        for port in self.ports.values():
            for _ in range(1_000):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
                    break
                self._signals.sleep()


def send(url: str, body: str) -> str:
    request = urllib.request.Request(url, body.encode() or None)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def test_the_documentation_can_be_typed(own_place):
    own_place.start()
    exchanges = re.findall(r"^\$ curl (\S+)(?: -d '(.*?)')?$\n(\{.*?\})$", own_place.text(), re.MULTILINE | re.DOTALL)
    assert len(exchanges) == 3
    for _ in range(2):
        assert [send(url, body) for url, body, _ in exchanges] == [answer for _, _, answer in exchanges]
    url, body, _ = exchanges[0]
    refused = send(url, body.replace("my-first-transfer", "my-second").replace("bob", "nobody"))
    assert refused == re.findall(r"^\{.*\}$", own_place.text(), re.MULTILINE)[-1]
    assert [send(url, "") for url, _, _ in exchanges[1:]] == [answer for _, _, answer in exchanges[1:]]


def entry(gid: str, branch_id: str, op: str, account: str, amount: int) -> Entry:
    return Entry(gid, branch_id, op, account, amount)


GOOD = Books(
    balances={"alice": 70, "bob": 130},
    opened_with={"alice": 100, "bob": 100},
    entries=(entry("g", "01", "action", "alice", -30), entry("g", "02", "action", "bob", 30)),
)
EFFECTS = [("01", "action"), ("02", "action")]


def audited(books: Books, **changes) -> list[str]:
    values = {"asked": books.balances, "expected": GOOD.balances, "gid": "g", "effects": EFFECTS}
    return find_problems(books, **(values | changes))


def test_an_auditor_has_nothing_to_say_about_good_books():
    assert audited(GOOD) == []


@pytest.mark.parametrize(
    ("books", "complaint"),
    [
        (Books({"alice": 70, "bob": 160}, GOOD.opened_with, GOOD.entries), "there is 230 in all accounts and was 200"),
        (Books({"alice": 60, "bob": 140}, GOOD.opened_with, GOOD.entries), "the files say alice 60, bob 140"),
        (Books({"alice": 60, "bob": 140}, GOOD.opened_with, GOOD.entries), "alice has 60, but the entries come to 70"),
        (
            Books(GOOD.balances, GOOD.opened_with, (*GOOD.entries, entry("old", "01", "action", "bob", 0)) * 2),
            "branch 01 action of old took effect 2 times",
        ),
        (Books(GOOD.balances, GOOD.opened_with, GOOD.entries[:1]), "the transfer's entries are [('01', 'action')]"),
    ],
)
def test_an_auditor_finds(books, complaint):
    assert [problem for problem in audited(books) if complaint in problem] != []


def test_an_auditor_compares_with_what_the_banks_say():
    assert audited(GOOD, asked={"alice": 70, "bob": 131}) == [
        "the banks say alice 70, bob 131, their files say alice 70, bob 130"
    ]
