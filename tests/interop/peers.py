"""Programs in other languages that use a client for DTM: found, built once, started and told what to do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import pytest

HERE = Path(__file__).parent

#: How long a build may take that has to fetch everything first, on a machine that is busy otherwise.
BUILD_SECONDS = 900
#: How long a case may take; each waits for the server at most a few seconds.
CASE_SECONDS = 60


def toolchain(programs: str, remedy: str) -> None:
    """Skip what needs a toolchain that is not installed, and say so; in continuous integration fail.

    Args:
        programs: names separated by blanks, looked for on the PATH.
        remedy: what installs them.
    """
    lacking = [name for name in programs.split() if shutil.which(name) is None]
    if not lacking:
        return
    text = f"NOT RUN, no {' and no '.join(lacking)} on the PATH: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def build(command: list[str], folder: Path) -> None:
    """Run a build; what it printed is the text of the failure."""
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed in {folder}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def build_go(package: str, program: Path) -> str:
    """Build a program that uses the released Go client; a second one takes what the first compiled from Go's cache.

    Args:
        package: the program's folder in ``go/``.
        program: the file that is made.

    Returns:
        The path of the program.
    """
    toolchain("go", "apt-get install golang-go (1.19 or newer)")
    build(["go", "build", "-buildvcs=false", "-mod=readonly", "-o", str(program), package], HERE / "go")
    return str(program)


class Result(NamedTuple):
    """What the client gave its user."""

    gid: str
    error: str
    result: str = ""


class Peer:
    """A started program; use it as a context manager.

    It prints ``ready PORT`` and then answers ``GET /run``. It ends when its standard input does.

    Args:
        command: the program and its arguments.
        log: a file for what it writes to its standard error.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        said = self._process.stdout.readline().split()
        if said[:1] != ["ready"]:
            self.kill()
            raise AssertionError(f"{self._command[0]} did not start, it said {said}: {self._log.read_text()[-2000:]}")
        self.port = int(said[1])

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        code = self._process.wait(CASE_SECONDS)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process = None
        return code

    def get(self, path: str, **query: object) -> tuple[int, Any]:
        """Ask it; the status and the JSON of the answer."""
        return self._send("GET", f"{path}?{urlencode(query)}", None)

    def post(self, path: str, body: object, **query: object) -> tuple[int, Any]:
        """Call one of its business addresses, as the server does."""
        return self._send("POST", f"{path}?{urlencode(query)}", json.dumps(body).encode())

    def run(self, case: str, **query: object) -> Result:
        """Run a case; what the client returned or raised."""
        status, answer = self.get("/run", case=case, **query)
        assert status == 200, answer
        return Result(**answer)

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CASE_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
