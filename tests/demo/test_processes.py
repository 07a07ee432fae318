"""The demo's child processes: started, killed with everything they started, never left."""

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from reefknot.demo.processes import Processes, free_ports, log_tail
from reefknot.demo.signals import StoppedError, StopSignals
from reefknot.demo.stage import SERVER, DemoError, Stage

#: Says its own id and that of a child; both ignore SIGTERM, and the child outlives its parent.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
time.sleep(60)
"""


def exists(pid: int) -> bool:
    """A zombie has ended too: only its parent, here the machine's first process, has to notice."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        with contextlib.suppress(OSError), Path(f"/proc/{pid}/stat").open() as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
        return True
    return False


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 10
    while any(map(exists, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(exists, pids))


def started(processes: Processes, tmp_path) -> list[int]:
    log = tmp_path / "log"
    processes.start("stubborn", [sys.executable, "-c", STUBBORN], os.environ, log)
    until = time.monotonic() + 20
    # The whole line, not what a reader sees of it in the middle of the write.
    while not log.read_bytes().endswith(b"\n") and time.monotonic() < until:
        time.sleep(0.01)
    return [int(word) for word in log_tail(log).split()]


def test_a_kill_takes_the_children_along(tmp_path):
    with Processes() as processes:
        pids = started(processes, tmp_path)
        assert len(pids) == 2
        processes.kill("stubborn")
        assert gone(pids)


def test_leaving_ends_what_ignores_sigterm(tmp_path):
    with Processes(patience_seconds=0.2) as processes:
        pids = started(processes, tmp_path)
        assert [exists(pid) for pid in pids] == [True, True]
    assert gone(pids)


def test_free_ports_can_be_used_together():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    with contextlib.ExitStack() as opened:
        for port in ports:
            opened.enter_context(socket.create_server(("127.0.0.1", port)))


def test_a_signal_is_kept_for_the_next_wait():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        signals.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StoppedError, match="SIGTERM"):
            signals.sleep(10)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_that_does_not_start_is_explained(tmp_path):
    (tmp_path / "reefknot.db").mkdir()
    explained = pytest.raises(DemoError, match=r"server ended with code [12] instead of starting:\n.*reefknot")
    with StopSignals() as signals, Processes() as processes, Stage(tmp_path, processes, signals) as stage, explained:
        stage.start(SERVER)
