"""The tutorial's programs, run as they stand on the page."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from reefknot import Client
from reefknot.testing.participant import FAILURE, Participant
from reefknot.testing.server import LocalServer, ServerProcess, free_port
from reefknot.testing.services import serving

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


@pytest.fixture(scope="module")
def ports():
    """The page's ports may be in use on this machine: others stand in for them."""
    return {"8081": str(free_port()), "8082": str(free_port())}


#: The file of the bank at each port of the page.
FILES = {"8081": "east.db", "8082": "west.db"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ports):
    """A folder with the page's programs, after create.py."""
    folder = tmp_path_factory.mktemp("tutorial")
    files = re.compile(r"^\*\*(\w+\.py)\*\*\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    programs = dict(files.findall(PAGE.read_text("utf-8")))
    assert set(programs) == {"bank.py", "create.py", "transfer.py", "test_transfer.py"}
    for name, text in programs.items():
        moved = text.replace("8081", ports["8081"]).replace("8082", ports["8082"])
        (folder / name).write_text(moved, "utf-8")
    assert "bob 100" in run(folder, "create.py")
    return folder


def run(folder, *arguments, **environment):
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(folder, port, file):
    command = [sys.executable, "-m", "uvicorn", "bank:app", "--port", port, "--log-level", "warning"]
    bank = subprocess.Popen(command, cwd=folder, env={**os.environ, "BANK": file})
    until = time.monotonic() + 30
    while bank.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=5):
                return bank
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise AssertionError("the bank did not start")


def balances(folder):
    found = {}
    for file in FILES.values():
        with contextlib.closing(sqlite3.connect(folder / file)) as db:
            found.update(db.execute("SELECT name, balance FROM account"))
    return found


@contextlib.contextmanager
def started(folder, *arguments, **environment):
    """A program of the page that goes on by itself; its lines come from ``stdout``."""
    program = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def stop(bank):
    """What Ctrl-C does."""
    bank.send_signal(signal.SIGINT)
    bank.wait(30)


def test_the_page_from_top_to_bottom(folder, ports):
    """A reader's way: two transfers, a bank that is stopped, a server that is killed, then the test."""
    banks = {file: start(folder, ports[port], file) for port, file in FILES.items()}
    west = FILES["8082"]
    quick = {"REEFKNOT_RETRY_INTERVAL": "1", "REEFKNOT_RETRY_INTERVAL_MAX": "1"}
    try:
        with ServerProcess(f"sqlite:///{folder / 'reefknot.db'}", environment=quick) as server:
            place = {"DTM_SERVER": server.url}
            assert run(folder, "transfer.py", "bob", **place).startswith("done: ")
            assert balances(folder) == {"alice": 70, "bob": 130}

            assert "nobody has no account" in run(folder, "transfer.py", "nobody", **place)
            assert balances(folder) == {"alice": 70, "bob": 130}

            for killed, left in ((False, {"alice": 40, "bob": 160}), (True, {"alice": 10, "bob": 190})):
                stop(banks[west])
                with started(folder, "transfer.py", "bob", **place) as transfer:
                    assert transfer.stdout.readline() == "not finished yet; the server goes on\n"
                    assert balances(folder)["alice"] == left["alice"]
                    if killed:
                        server.kill()
                        assert transfer.stdout.readline() == "no end in sight; asking again\n"
                        server.start()
                    banks[west] = start(folder, ports["8082"], west)
                    output, _ = transfer.communicate(timeout=90)
                assert output.splitlines()[-1].startswith("done: "), output
                assert balances(folder) == left

            # Alice has too little left for the test's transfers: it has accounts of its own.
            assert "2 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_transfer.py")
            assert balances(folder) == left
    finally:
        for bank in banks.values():
            bank.kill()
            bank.wait()


def test_an_undo_books_though_the_money_is_gone(folder, tmp_path, monkeypatch):
    """Bob spends what he was sent before it is taken back: his bank says yes, and he owes it."""
    monkeypatch.setenv("BANK", str(tmp_path / "west.db"))
    names = {}
    for program in ("create.py", "bank.py"):
        exec(compile((folder / program).read_text("utf-8"), program, "exec"), names)
    names["create"](str(tmp_path / "west.db"), "bob")

    def spend(call):
        with contextlib.closing(sqlite3.connect(tmp_path / "west.db")) as db, db:
            db.execute("UPDATE account SET balance = 0")
        return FAILURE

    order = {"account": "bob", "amount": 30}
    with LocalServer() as server, Participant() as shop, serving(names["app"]) as bank, Client(server.url) as client:
        shop.on("/spent", spend)
        saga = client.saga()
        saga.step(f"{bank}/in", f"{bank}/in/undo", order)
        saga.step(shop.url("/spent"))
        saga.submit()
        assert server.wait_for(saga.gid, "failed") == "failed"
    with contextlib.closing(sqlite3.connect(tmp_path / "west.db")) as db:
        assert db.execute("SELECT balance FROM account").fetchone() == (-30,)
