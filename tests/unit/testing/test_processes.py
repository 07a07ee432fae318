"""Servers that tests stop and start: when they stand still, and as whom they run."""

import os
import signal
import subprocess
import sys
import time

import pytest

from reefknot.testing.databases.processes import as_account, freeze, send

BUSY = """
import threading, sys
def count():
    number = 0
    while True:
        number += 1
        print(number, flush=True)
threads = [threading.Thread(target=count) for _ in range(4)]
for thread in threads:
    thread.start()
"""


def test_a_frozen_process_does_nothing_more(tmp_path):
    output = tmp_path / "output"
    # The one that the scheduler thinks of last.
    with output.open("wb") as to, subprocess.Popen(["nice", "-n", "19", sys.executable, "-c", BUSY], stdout=to) as busy:
        try:
            until = time.monotonic() + 20
            while not output.stat().st_size:
                assert time.monotonic() < until
            for _ in range(20):
                freeze([busy.pid])
                size = output.stat().st_size
                time.sleep(0.02)
                assert output.stat().st_size == size
                send(signal.SIGCONT, [busy.pid])
                while output.stat().st_size == size:
                    assert time.monotonic() < until
        finally:
            busy.kill()


def test_processes_that_are_gone_stand_still():
    done = subprocess.Popen(["true"])
    done.wait()
    freeze([done.pid])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a program as somebody else")
def test_a_command_as_another_user():
    shown = subprocess.run([*as_account("nobody"), "id", "-un"], capture_output=True, text=True, check=True)
    assert shown.stdout == "nobody\n"
