"""Private etcd servers for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from reefknot.testing.databases.processes import free_port, freeze, send, wait_until_gone

_START_SECONDS = 60.0


def find_program() -> str | None:
    """The program ``etcd``; None if there is none."""
    return shutil.which("etcd")


class EtcdServer:
    """An etcd of one member on a free port; start it with ``with``.

    Args:
        arguments: further flags, for example those of TLS.
        scheme: ``https`` if these make it speak TLS to its clients.

    Raises:
        RuntimeError: no etcd is installed, or it does not start; the text has its log.
    """

    def __init__(self, *arguments: str, scheme: str = "http") -> None:
        program = find_program()
        if program is None:
            raise RuntimeError("no etcd: apt-get install etcd-server")
        self._program = program
        self._arguments = arguments
        self._scheme = scheme
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._peer_port, self._metrics_port = free_port(), free_port()
        self.port = free_port()

    @property
    def host(self) -> str:
        """``host:port`` of its clients' listener."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="reefknot-etcd-"))
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server on its data and return when its client listener answers."""
        client, peer = f"{self._scheme}://{self.host}", f"http://127.0.0.1:{self._peer_port}"
        flags = {
            "--data-dir": str(self._directory / "data"),
            "--listen-client-urls": client,
            "--advertise-client-urls": client,
            "--listen-peer-urls": peer,
            "--initial-advertise-peer-urls": peer,
            "--initial-cluster": f"default={peer}",
            "--listen-metrics-urls": f"http://127.0.0.1:{self._metrics_port}",
            # An election waits for this; one member has nobody to wait for.
            "--heartbeat-interval": "10",
            "--election-timeout": "100",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the server's own program, no shell
                [self._program, *(f"{name}={value}" for name, value in flags.items()), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        until = time.monotonic() + _START_SECONDS
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"etcd does not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server, if it runs, and delete its data."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL; ``start`` starts it again on the same data and port."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: the server keeps its connections and answers nothing."""
        freeze(self._pids)

    def thaw(self) -> None:
        """SIGCONT."""
        send(signal.SIGCONT, self._pids)

    def control(self, *words: str) -> str:
        """Run ``etcdctl`` with these words and return what it prints."""
        program = shutil.which("etcdctl")
        if program is None:
            raise RuntimeError("no etcdctl: apt-get install etcd-client")
        return subprocess.run(  # noqa: S603 - etcd's own tool, no shell
            [program, f"--endpoints={self.host}", *words],
            env={"PATH": os.defpath, "ETCDCTL_API": "3"},
            capture_output=True,
            check=True,
            text=True,
            timeout=20,
        ).stdout

    @property
    def _pids(self) -> list[int]:
        return [self._process.pid] if self._process else []

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/health", timeout=2) as answer:
                return b'"true"' in answer.read()
        except (OSError, urllib.error.URLError):
            return False

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        pids = self._pids
        send(signal.SIGCONT, pids)
        send(signum, pids)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            send(signal.SIGKILL, pids)
            self._process.wait(10)
        wait_until_gone(pids)
        self._process = None
