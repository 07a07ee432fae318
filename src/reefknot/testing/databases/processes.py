"""The processes of a server that a test started: itself and its descendants."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

#: Below the ports that systems give to outgoing connections: while a server is down, none of those may take its
#: place. A Redis cluster also uses each of its ports plus 10,000.
PORTS = range(12_000, 22_000)
#: The processes of one test run (pytest-xdist) take theirs from different parts of it: between the moment in which a
#: port is found free and that in which a server listens there, nobody else must find it.
_PARTS = 8


def find_bundled(place: str, program: str) -> Path | None:
    """A server's program in a folder, or in a Python package that brings it.

    Args:
        place: the path of a folder or of the program itself, or the name of an importable package.
        program: the program's file name.
    """
    path = Path(place)
    if path.is_file():
        return path.resolve()
    if path.is_dir():
        found = path / program
        return found.resolve() if found.is_file() else None
    spec = importlib.util.find_spec(place) if place.isidentifier() else None
    if spec is None or not spec.origin:
        return None
    return max((path for path in Path(spec.origin).parent.rglob(program) if path.is_file()), default=None)


def version_of(program: str) -> tuple[int, ...]:
    """The version that a server's program prints, for example (7, 0, 15); empty if it prints none."""
    done = subprocess.run(  # noqa: S603 - the server's own program, no shell
        [program, "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return tuple(map(int, found[0].split("."))) if found else ()


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens now.

    Raises:
        OSError: none was found in many tries.
    """
    for port in itertools.islice(_candidates(), 1_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"found no free TCP port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


@functools.cache
def _candidates() -> Iterator[int]:
    """This process's ports in turn, from a random one: two threads that ask at once never get the same."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = PORTS[worker % _PARTS :: _PARTS]
    start = secrets.randbelow(len(ports))
    return map(ports.__getitem__, itertools.cycle([*range(start, len(ports)), *range(start)]))


def family(pid: int) -> list[int]:
    """A process and all its descendants that live, the process first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def as_account(user: str) -> list[str]:
    """What to put in front of a command, run as root, that runs it as another user.

    Not the argument ``user`` of ``subprocess``: that forks this process with all it holds, and a thread
    of gRPC that comes along may end the child before it becomes the server (seen with grpcio 1.85).
    """
    account = pwd.getpwnam(user)
    # setpriv starts what follows with root's right to enter any folder; what env starts, it starts without.
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups", "env"]


def send(signum: signal.Signals, pids: list[int]) -> None:
    """Send a signal to each of these processes that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def freeze(pids: list[int], seconds: float = 20) -> None:
    """SIGSTOP to each of these processes; returns when none of their threads runs any more.

    A process stops only when one of its threads is scheduled to see the signal: on a busy machine the
    others go on answering until then.

    Raises:
        TimeoutError: one still runs after that many seconds.
    """
    send(signal.SIGSTOP, pids)
    until = time.monotonic() + seconds
    while running := [pid for pid in pids if not _stands_still(pid)]:
        if time.monotonic() > until:
            raise TimeoutError(f"processes {running} still run {seconds:g} s after SIGSTOP")
        time.sleep(0.005)


def wait_until_gone(pids: list[int], seconds: float = 20) -> None:
    """Return when none of these processes lives.

    Raises:
        TimeoutError: one still lives after that many seconds.
    """
    until = time.monotonic() + seconds
    while left := [pid for pid in pids if _alive(pid)]:
        if time.monotonic() > until:
            raise TimeoutError(f"processes {left} are still there after {seconds:g} s")
        time.sleep(0.02)


def _stands_still(pid: int) -> bool:
    """Whether every thread of the process is stopped, or ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] in "TtZX" for thread in threads)
    return not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
