"""Backup and restore of the embedded store as docs/stores/sqlite.md says it: what was acknowledged is counted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Self

import pytest

from reefknot.testing.participant import Participant
from reefknot.testing.server import PATIENCE_SECONDS, START_SECONDS, ServerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "stores" / "sqlite.md").read_text("utf-8")
FOLDER = "/var/lib/reefknot"


class Load:
    """Submits sagas without an end; ``acknowledged`` is what the server has said it keeps."""

    def __init__(self, server: ServerProcess, url: str) -> None:
        self.acknowledged: list[str] = []
        self._server = server
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            fields = {"gid": f"{number}-{count}", "trans_type": "saga", "steps": [{"action": self._url}]}
            with contextlib.suppress(OSError, HTTPException):
                if self._server.post("submit", {**fields, "payloads": ["x" * 500]}).status == 200:
                    self.acknowledged.append(f"{number}-{count}")

    def wait_for(self, count: int) -> None:
        """Return when so many more are acknowledged."""
        until, count = time.monotonic() + START_SECONDS, count + len(self.acknowledged)
        while len(self.acknowledged) < count:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "live").mkdir()
    (tmp_path / "backup").mkdir()
    return tmp_path


@pytest.fixture
def bank():
    with Participant() as bank:
        yield bank


def store(path):
    return f"sqlite:///{path}"


def gids(path):
    """The transactions in a database of nobody, which must be sound."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {gid for (gid,) in database.execute("SELECT gid FROM tx")}


def run_as_documented(folder):
    """Make the backup with the page's own commands."""
    [commands] = re.findall(r"^\$ (umask.*)\n\$ (sqlite3 .*)$", PAGE, re.MULTILINE)
    script = "\n".join(commands).replace(FOLDER, str(folder / "live")).replace("/backup/", f"{folder}/backup/")
    if shutil.which("sqlite3"):
        subprocess.run(["sh", "-ec", script], check=True, timeout=PATIENCE_SECONDS * 3)
        return
    statement = re.findall(r'"(VACUUM INTO .*)"', script)[0]
    with contextlib.closing(sqlite3.connect(folder / "live" / "reefknot.db", timeout=30)) as database:
        database.execute(statement)


def test_a_backup_under_load_has_everything_that_was_acknowledged_before_and_runs_on(folder, bank):
    live, backup = folder / "live" / "reefknot.db", folder / "backup" / "reefknot.db"
    with ServerProcess(store(live)) as server, Load(server, bank.url("/a")) as load:
        load.wait_for(200)
        for _ in range(3):
            backup.unlink(missing_ok=True)
            before = set(load.acknowledged)
            run_as_documented(folder)
            load.wait_for(20)  # the server goes on
            assert before - gids(backup) == set()
    assert not backup.with_name("reefknot.db-wal").exists()

    # Restore: all three files go away, the copy takes their place.
    for name in ("reefknot.db", "reefknot.db-wal", "reefknot.db-shm"):
        (folder / "live" / name).unlink(missing_ok=True)
    shutil.copy(backup, live)
    with ServerProcess(store(live)) as server:
        for gid in before:
            server.wait_for(gid, "succeed", seconds=START_SECONDS)


def kill_all(server):
    """Kill the server's writer, which would tidy up after a killed server, and then the server."""
    server.process.send_signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    assert children
    for child in children:
        os.kill(child, signal.SIGKILL)
    server.kill()


@pytest.mark.parametrize("end", [ServerProcess.stop, ServerProcess.kill, kill_all])
def test_all_files_of_a_server_that_stopped_or_was_killed_are_a_backup(folder, bank, end):
    live = folder / "live" / "reefknot.db"
    with ServerProcess(store(live)) as server, Load(server, bank.url("/a")) as load:
        load.wait_for(50)
        end(server)
    wait_until_free(live)
    log = live.with_name("reefknot.db-wal")
    assert log.exists() == (end is kill_all)
    for file in filter(Path.exists, (live, log)):
        shutil.copy(file, folder / "backup")
    assert set(load.acknowledged) - gids(folder / "backup" / "reefknot.db") == set()


def wait_until_free(live):
    """Wait until the writer of a killed server has ended: it holds the lock file, too."""
    until = time.monotonic() + PATIENCE_SECONDS
    with live.with_name("reefknot.db.lock").open() as lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_copy_of_the_database_alone_misses_what_was_acknowledged(folder, bank):
    live, copy = folder / "live" / "reefknot.db", folder / "backup" / "reefknot.db"
    with ServerProcess(store(live)) as server, Load(server, bank.url("/a")) as load:
        load.wait_for(50)
        before = set(load.acknowledged)
        shutil.copy(live, copy)
        assert live.with_name("reefknot.db-wal").stat().st_size
        assert live.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(copy)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        found = {gid for (gid,) in database.execute("SELECT gid FROM tx")} if "tx" in tables else set()
    assert before - found


def test_a_second_server_is_refused_and_a_killed_ones_lock_ends_with_it(folder):
    live = folder / "live" / "reefknot.db"
    with ServerProcess(store(live)) as server:
        second = ServerProcess(store(live), log=folder / "second.log")
        with pytest.raises(AssertionError, match=rf"is in use by process {server.process.pid}; stop that server"):
            second.start()
        assert second.process.wait(PATIENCE_SECONDS) == 2
        server.kill()
        with ServerProcess(store(live)) as third:
            assert third.answers()
    assert live.with_name("reefknot.db.lock").exists()
