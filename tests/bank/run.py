"""One run: transfers of one mode between two banks, with faults, until everything is at rest."""

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bank.accounts import KINDS, State
from bank.network import Network
from reefknot import Client
from reefknot.model import Status
from reefknot.testing.history import Ack, Effect, History, Stored, stored
from reefknot.testing.server import PATIENCE_SECONDS, ServerProcess, free_port

ACCOUNTS = 100
#: What a run does unless more is asked for.
USUAL_TRANSFERS = 30
MOST_AMOUNT = 60
#: One transfer in so many goes to a closed account.
CLOSED_ONE_IN = 8
#: Customers at a time, and how many transfers each has at least. A prepared branch keeps its accounts locked.
CUSTOMERS = {"xa": 8}
USUAL_CUSTOMERS = 24
FEWEST_EACH = 5
#: How workflows take the money, in turn; see ``Teller``.
WAYS = ("called", "held", "local", "xa")
#: How long a customer goes on repeating an order of which nothing is known, and how long it waits before.
PERSISTENCE_SECONDS = 60
PAUSE_SECONDS = 0.25
#: Transfers between two kills, and the fewest kills of a run: every process once.
KILL_EVERY = 60
FEWEST_KILLS = 3
LONGEST_DOWN_SECONDS = 0.5
START_SECONDS = 60
REST_SECONDS = 120
TESTS = Path(__file__).parent.parent

#: Everything that takes time is as short as the settings allow.
SETTINGS = {
    "REEFKNOT_RETRY_INTERVAL": "1",
    "REEFKNOT_RETRY_INTERVAL_MAX": "3",
    "REEFKNOT_REQUEST_TIMEOUT": "3",
    "REEFKNOT_TRANS_CRON_INTERVAL": "1",
    "REEFKNOT_LEASE_SECONDS": "2",
    "REEFKNOT_SHUTDOWN_TIMEOUT": "2",
    "REEFKNOT_LOG_LEVEL": "warn",
}


class Transfer(NamedTuple):
    """One order of a customer."""

    gid: str
    order: dict[str, Any]


class Result(NamedTuple):
    """Everything that is known when a run is at rest.

    ``said`` is what customers were told, by gid; ``final`` the transactions as the server shows them.
    """

    transfers: list[Transfer]
    said: dict[str, dict[str, str]]
    final: dict[str, Stored]
    banks: list[State]
    history: History
    counts: Counter
    kills: Counter
    seconds: float


class BankProcess:
    """One bank, to be killed and started again on its port and its database."""

    def __init__(self, name, settings, log):
        self.name = name
        self._settings = settings
        self._log = log
        self.port = settings["port"]
        self._process = None

    def start(self):
        """Start it and wait until it answers."""
        command = [sys.executable, str(Path(__file__).with_name("service.py")), json.dumps(self._settings)]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))},
            )
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            if not self.alive or time.monotonic() > until:
                raise AssertionError(f"{self.name} did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def answers(self):
        return exchange(self.port, "/ping") is not None

    @property
    def alive(self):
        return self._process.poll() is None

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.stdin.close()
            self._process.wait(PATIENCE_SECONDS)


class Run:
    """The processes of a run and the network between them.

    Args:
        mode: saga, tcc, xa, msg or workflow.
        databases: (kind, URL) of each of the two banks.
        folder: for the server's store and the logs.
        seed: of everything that is drawn.
        guarded: False plants a mistake in the banks; see ``SqlAccounts``.
    """

    def __init__(self, mode, databases, folder, seed, *, guarded=True):
        self.mode = mode
        self.accounts = [KINDS[kind](url, guarded=guarded) for kind, url in databases]
        self.network = Network(seed)
        self._databases = databases
        self._folder = folder
        self._seed = seed
        self._guarded = guarded
        self._server = ServerProcess(f"sqlite:///{folder}/server.db", environment=SETTINGS, log=folder / "server.log")
        self._banks = []
        self._said = {}
        self._done = threading.Semaphore(0)

    def play(self, count):
        """Do so many transfers; what is known at rest."""
        transfers = self._orders(count)
        with contextlib.ExitStack() as cleanup:
            cleanup.enter_context(self.network)
            cleanup.callback(self._kill_everything)
            self._start()
            started = time.monotonic()
            kills = self._transfer(transfers)
            self.network.calm_down()
            with Client(self._server.url) as client:
                self._wait_for_rest(client)
            seconds = time.monotonic() - started
            final = self._final(transfers)
        banks = [accounts.state() for accounts in self.accounts]
        return Result(
            transfers, self._said, final, banks, self._history(final, banks), self.network.counts, kills, seconds
        )

    def _orders(self, count):
        rng = random.Random(f"orders {self._seed}")
        name = f"{rng.randrange(1 << 32):08x}x{time.time_ns():x}"
        transfers = []
        for number in range(count):
            payer, paid = rng.sample(range(ACCOUNTS), 2)
            order = {"from": payer, "to": paid, "amount": rng.randint(1, MOST_AMOUNT), "wait": rng.random() < 0.25}
            # A message can be sent to open accounts only: its receiver has no way to refuse.
            order["closed"] = self.mode != "msg" and rng.randrange(CLOSED_ONE_IN) == 0
            order["way"] = WAYS[number % len(WAYS)] if self.mode == "workflow" else ""
            if order["way"] == "xa":
                # A prepared step keeps its account locked, and a workflow has no time limit: without one order
                # of the accounts for all, two of them could wait for each other for ever.
                order["from"], order["to"] = sorted((payer, paid))
                if self._databases[order["from"] % 2][0] == "redis":
                    order["way"] = "called"  # Redis prepares nothing
            transfers.append(Transfer(f"{self.mode}.{number}.{name}", order))
        return transfers

    # --- processes --------------------------------------------------------------------------------

    def _start(self):
        for number, accounts in enumerate(self.accounts):
            accounts.create(range(number, ACCOUNTS, 2))
        server = f"http://127.0.0.1:{self.network.way('server', urlsplit(self._server.url).port)}"
        ports = [free_port(), free_port()]
        urls = [f"http://127.0.0.1:{self.network.way('banks', port)}" for port in ports]
        for number, (kind, database) in enumerate(self._databases):
            settings = {"kind": kind, "database": database, "guarded": self._guarded, "server": server}
            settings |= {"port": ports[number], "banks": urls, "own": urls[number]}
            self._banks.append(BankProcess(f"bank {number}", settings, self._folder / f"bank-{number}.log"))
        everything = [self._server, *self._banks]
        threads = [threading.Thread(target=self._start_patiently, args=(one,)) for one in everything]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _kill_everything(self):
        for one in (self._server, *self._banks):
            one.kill()

    # --- transfers and kills ----------------------------------------------------------------------

    def _transfer(self, transfers):
        """Order every transfer and kill processes meanwhile; how often each was killed."""
        waiting = iter(transfers)
        lock = threading.Lock()

        def customer():
            while True:
                with lock:
                    transfer = next(waiting, None)
                if transfer is None:
                    return
                self._said[transfer.gid] = self._order(transfer)
                self._done.release()

        several = max(1, min(CUSTOMERS.get(self.mode, USUAL_CUSTOMERS), len(transfers) // FEWEST_EACH))
        customers = [threading.Thread(target=customer, daemon=True) for _ in range(several)]
        for one in customers:
            one.start()
        kills = self._kill_meanwhile(len(transfers))
        for one in customers:
            one.join()
        return kills

    def _kill_meanwhile(self, count):
        rng = random.Random(f"kills {self._seed}")
        number = max(FEWEST_KILLS, count // KILL_EVERY)
        victims = [("server", self._server), *((bank.name, bank) for bank in self._banks)]
        order = rng.sample(victims, len(victims)) + rng.choices(victims, k=number - len(victims))
        moments = sorted(rng.sample(range(1, count), number))
        kills, passed = Counter(), 0
        for moment, (name, victim) in zip(moments, order, strict=True):
            for _ in range(moment - passed):
                assert self._done.acquire(timeout=REST_SECONDS), "no customer hears anything"
            passed = moment
            victim.kill()
            kills[name] += 1
            time.sleep(rng.uniform(0, LONGEST_DOWN_SECONDS))
            self._start_patiently(victim)
        return kills

    def _start_patiently(self, victim):
        """On a machine with other work, a start can take longer than a start's own patience."""
        try:
            victim.start()
        except AssertionError:
            until = time.monotonic() + START_SECONDS
            while not victim.answers():
                if time.monotonic() > until or not victim.alive:
                    raise
                time.sleep(0.1)

    def _order(self, transfer):
        """Order one transfer at the payer's bank, again if nothing is known of it; what the bank said last."""
        bank = self._banks[transfer.order["from"] % 2]
        body = json.dumps({"mode": self.mode, "gid": transfer.gid, "order": transfer.order})
        said = {"outcome": "unknown", "why": "the bank did not answer"}
        until = time.monotonic() + PERSISTENCE_SECONDS
        while time.monotonic() < until:
            if answer := exchange(bank.port, "/transfer", body):
                said = json.loads(answer)
            if said["outcome"] != "unknown":
                break
            time.sleep(PAUSE_SECONDS)
        return said

    # --- at rest ----------------------------------------------------------------------------------

    def _wait_for_rest(self, client):
        until = time.monotonic() + REST_SECONDS
        unfinished = (Status.PREPARED, Status.SUBMITTED, Status.ABORTING)
        while stuck := [one for status in unfinished for one in client.query(status=status).transactions]:
            if time.monotonic() > until:
                gids = [(one.gid, one.status, one.reason) for one in stuck]
                raise AssertionError(f"not finished {REST_SECONDS} s after the last fault: {gids[:10]}")
            time.sleep(0.1)

    def _final(self, transfers):
        found = {}
        for gid in (transfer.gid for transfer in transfers):
            if one := stored(self._server.get("query", gid=gid).json()):
                found[gid] = one
        return found

    def _history(self, final, banks):
        """The run as the checker of the invariants reads it."""
        promises = {"succeed": "succeed", "refused": "failed", "prepared": "succeed"}
        promises["submitted"] = "" if self.mode == "saga" else "succeed"
        acks = [
            Ack("transfer", gid, promises[said["outcome"]])
            for gid, said in self._said.items()
            # What was refused before anything was stored need not be there.
            if said["outcome"] in promises and (gid in final or said["outcome"] != "refused")
        ]
        return History(
            acks=tuple(acks),
            calls=tuple(self.network.calls),
            final=tuple(final.values()),
            effects=tuple(
                Effect(line.gid, line.branch_id, line.op, line.at_ms) for bank in banks for line in bank.journal
            ),
            request_timeout_ms=3_000,
            lease_ms=2_000,
            slack_ms=500,
        )


def exchange(port, path, body=None):
    """The text of an answer with status 200; None without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        text = response.read().decode()
        return text if response.status == 200 else None
    return None
