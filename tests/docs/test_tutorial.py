"""The tutorial's programs, run as they stand on the page."""

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

from reefknot.testing.server import ServerProcess, free_port

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
        with sqlite3.connect(folder / file) as db:
            found.update(db.execute("SELECT name, balance FROM account"))
    return found


def test_two_banks_and_a_killed_one(folder, ports):
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

            banks[west].send_signal(signal.SIGKILL)
            banks[west].wait()
            waiting = subprocess.Popen(
                [sys.executable, "transfer.py", "bob"],
                cwd=folder,
                env={**os.environ, **place},
                stdout=subprocess.PIPE,
                text=True,
            )
            until = time.monotonic() + 30
            while balances(folder)["alice"] == 70 and time.monotonic() < until:
                time.sleep(0.05)
            server.kill()
            server.start()
            banks[west] = start(folder, ports["8082"], west)
            waiting.communicate(timeout=60)
            until = time.monotonic() + 30
            while balances(folder)["bob"] == 130 and time.monotonic() < until:
                time.sleep(0.1)
            assert balances(folder) == {"alice": 40, "bob": 160}
    finally:
        for bank in banks.values():
            bank.kill()
            bank.wait()


def test_the_pages_test_passes(folder):
    assert "2 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_transfer.py")
