"""The parent of several workers: a signal to stop reaches every one of them, whenever it comes."""

import os
import signal
import subprocess
import sys
import time

import pytest

PARENT = """
import sys
from reefknot.workers import Workers
sys.exit(Workers([sys.executable, "-c", "import time; time.sleep(300)"], 8, 1).run())
"""


def children(pid: int) -> list[str]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.mark.parametrize("started", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_stop_while_the_workers_are_being_started_reaches_all(started):
    with subprocess.Popen([sys.executable, "-c", PARENT], start_new_session=True) as parent:
        try:
            while len(children(parent.pid)) < started:
                time.sleep(0.0005)
            parent.send_signal(signal.SIGTERM)
            assert parent.wait(60) == 0
            assert children(parent.pid) == []
        finally:
            if parent.poll() is None:
                os.killpg(parent.pid, signal.SIGKILL)
