"""What the demo runs: one transaction manager and two banks, each a process with its own database."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from reefknot.config import all_keys
from reefknot.demo.audit import Books, read_books
from reefknot.demo.calls import RecordedCall, hold_file, read_calls
from reefknot.demo.processes import Processes, free_ports, log_tail
from reefknot.demo.signals import StopSignals

SERVER = "server"
EAST = "east"
WEST = "west"
OPENED_WITH: Mapping[str, Mapping[str, int]] = {EAST: {"alice": 100}, WEST: {"bob": 100, "carol": 0}}
CLOSED = "carol"
#: Short times, so that the demo is short: how soon a call is repeated, at first and at most, and how
#: long a dead server's transactions stay its own. All in seconds; the defaults are 10, 300 and 8.
SERVER_SETTINGS = {
    "REEFKNOT_RETRY_INTERVAL": "1",
    "REEFKNOT_RETRY_INTERVAL_MAX": "1",
    "REEFKNOT_LEASE_SECONDS": "2",
}
START_SECONDS = 30.0
HTTP_SECONDS = 5.0


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


class Stage:
    """The server and the banks. Leaving the ``with`` block closes the connections to them.

    Args:
        directory: an empty folder for databases and logs.
        processes: starts and ends the processes.
        signals: every wait goes through it.
        guarded: whether the banks use their barrier.
    """

    def __init__(self, directory: Path, processes: Processes, signals: StopSignals, *, guarded: bool = True) -> None:
        self.directory = directory
        self.signals = signals
        self.ports = dict(zip((SERVER, EAST, WEST), free_ports(3), strict=True))
        self._processes = processes
        self._guarded = guarded
        self._http = urllib3.PoolManager(timeout=HTTP_SECONDS, retries=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.clear()

    def url(self, name: str, path: str) -> str:
        """A URL of the server or of a bank."""
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def query_url(self, gid: str) -> str:
        """Where to see a transaction while the demo runs."""
        return self.url(SERVER, f"/api/dtmsvr/query?gid={gid}")

    @property
    def store_url(self) -> str:
        """Where the server keeps its transactions."""
        return f"sqlite:///{self.directory / 'reefknot.db'}"

    def start(self, *names: str) -> None:
        """Start the server or banks, and wait until they answer.

        Raises:
            DemoError: one did not start; the text has the end of its log.
        """
        for name in names:
            command = self._server_command() if name == SERVER else self._bank_command(name)
            self._processes.start(name, [sys.executable, "-m", *command], _environment(), self._log(name))
        until = time.monotonic() + START_SECONDS
        for name in names:
            while not self._answers(name):
                if (code := self._processes.ended(name)) is not None:
                    raise DemoError(f"{name} ended with code {code} instead of starting:\n{log_tail(self._log(name))}")
                if time.monotonic() > until:
                    raise DemoError(f"{name} did not answer within {START_SECONDS:.0f} s:\n{log_tail(self._log(name))}")
                self.signals.sleep()

    def kill(self, name: str) -> None:
        """SIGKILL the server or a bank."""
        self._processes.kill(name)

    def hold_answers(self, bank: str, path: str) -> None:
        """From now on the bank does what a path is called for, but its answer stays away."""
        hold_file(self._calls_file(bank)).write_text(path, "utf-8")

    def release_answers(self, bank: str) -> None:
        """The bank answers again."""
        hold_file(self._calls_file(bank)).unlink(missing_ok=True)

    def call_server(self, method: str, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the server's API and return the answer.

        Raises:
            DemoError: it refused, or did not answer.
        """
        return self._call(SERVER, method, f"/api/dtmsvr/{verb}", body)

    def asked_balances(self) -> dict[str, int]:
        """What the banks say about their accounts."""
        return {name: balance for bank in OPENED_WITH for name, balance in self._call(bank, "GET", "/balance").items()}

    def books(self) -> Books:
        """What the banks' database files say, read without asking the banks."""
        return read_books([self._database(bank) for bank in OPENED_WITH])

    def calls(self, gid: str) -> list[RecordedCall]:
        """The calls for one transaction that reached a bank, in order of arrival."""
        found = [call for bank in OPENED_WITH for call in read_calls(self._calls_file(bank)) if call.gid == gid]
        return sorted(found, key=lambda call: call.arrived_ms)

    def _call(self, name: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        url = self.url(name, path)
        try:
            answer = self._http.request(method, url, json=body)
        except urllib3.exceptions.HTTPError as error:
            raise DemoError(f"{method} {url}: {error}\n{log_tail(self._log(name))}") from error
        if answer.status != 200:
            raise DemoError(f"{method} {url} answered {answer.status} {answer.data.decode(errors='replace')}")
        return answer.json()

    def _answers(self, name: str) -> bool:
        try:
            return (
                self._http.request("GET", self.url(name, "/api/ping" if name == SERVER else "/balance")).status == 200
            )
        except urllib3.exceptions.HTTPError:
            return False

    def _server_command(self) -> list[str]:
        address = ["--http-port", str(self.ports[SERVER]), "--grpc-port", "0"]
        return ["reefknot", "serve", "--store", self.store_url, *address]

    def _bank_command(self, bank: str) -> list[str]:
        files = ["--database", str(self._database(bank)), "--calls", str(self._calls_file(bank))]
        accounts = [f"--account={name}={amount}" for name, amount in OPENED_WITH[bank].items()]
        options = [
            f"--port={self.ports[bank]}",
            f"--closed={CLOSED}",
            *([] if self._guarded else ["--without-barrier"]),
        ]
        return ["reefknot.demo.bank", *files, *accounts, *options]

    def _database(self, bank: str) -> Path:
        return self.directory / f"{bank}.db"

    def _calls_file(self, bank: str) -> Path:
        return self.directory / f"{bank}.calls"

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


def _environment() -> dict[str, str]:
    """This process's environment without settings meant for another server, and with ours."""
    names = {variable for key in all_keys() for name in key.variables for variable in (name, f"{name}_FILE")}
    kept = {name: value for name, value in os.environ.items() if name not in names and not name.startswith("REEFKNOT_")}
    return kept | SERVER_SETTINGS
