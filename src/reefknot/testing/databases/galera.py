"""A private Galera cluster for tests: MariaDB servers that commit together."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from reefknot.testing.databases.mariadb import MariaDbServer
from reefknot.testing.databases.mariadb import find_programs as find_mariadb
from reefknot.testing.databases.processes import family, free_port, send, wait_until_gone

#: Where Debian and other systems put the library that replicates.
_PROVIDER_PLACES = ("usr/lib/galera", "usr/lib/galera-4", "usr/lib64/galera", "usr/lib64/galera-4", "usr/local/lib")
_PROVIDER = "libgalera_smm.so"
_JOIN_SECONDS = 60.0


def find_provider() -> Path | None:
    """Galera's library; None if it, MariaDB or rsync is not installed."""
    found = [path for place in _PROVIDER_PLACES if (path := Path("/") / place / _PROVIDER).exists()]
    return found[0] if found and find_mariadb() and Path("/usr/bin/rsync").exists() else None


class GaleraNode(MariaDbServer):
    """One server of a cluster. Made by ``GaleraCluster``.

    Args:
        settings: server settings.
        password: of the user ``reefknot``, the same on every node.
    """

    def __init__(self, *, settings: Mapping[str, str], password: str) -> None:
        super().__init__(settings=settings, password=password)
        self.group_port = free_port()
        self._others: Sequence[GaleraNode] = ()

    @property
    def pids(self) -> list[int]:
        """The server and the programs that it started to copy data."""
        return family(self._process.pid) if self._process else []

    def status(self, name: str) -> str:
        """One of the server's ``wsrep_…`` status values, for example ``wsrep_cluster_size``; empty if it has none.

        Raises:
            subprocess.SubprocessError: the server does not answer.
        """
        answer = self._run_sql(f"SHOW STATUS LIKE '{name}'").split()
        return answer[-1] if answer else ""

    def join(self, others: Sequence[GaleraNode]) -> None:
        """Belong to a cluster with these nodes from the next start on; with none, found it."""
        self._others = others

    def start(self) -> None:
        """Start the server and return when it is in step with the cluster, which it joins or founds."""
        known = ",".join(f"127.0.0.1:{node.group_port}" for node in self._others)
        self._settings |= {
            "wsrep_cluster_address": f"gcomm://{known}",
            "wsrep_node_address": f"127.0.0.1:{self.group_port}",
            "wsrep_sst_receive_address": f"127.0.0.1:{free_port()}",
            "wsrep_provider_options": ";".join(
                (
                    f"gmcast.listen_addr=tcp://127.0.0.1:{self.group_port}",
                    f"ist.recv_addr=127.0.0.1:{free_port()}",
                    "gcache.size=32M",
                    # A node that is silent for so long is left behind; meanwhile nobody commits.
                    "evs.suspect_timeout=PT3S",
                    "evs.inactive_timeout=PT6S",
                )
            ),
        }
        super().start()

    def _fill(self) -> None:
        if self._others:
            data = self._directory / "data"  # another node fills it
            data.mkdir(mode=0o700)
            if os.geteuid() == 0:
                shutil.chown(data, "mysql")
            self.start()
        else:
            super()._fill()

    def _end(self, signum: signal.Signals) -> None:
        pids = self.pids
        super()._end(signum)
        send(signal.SIGKILL, pids[1:])
        wait_until_gone(pids)


class GaleraCluster:
    """MariaDB servers that commit together; start it with ``with``.

    A commit that is acknowledged by one of them is known to all. Write to one of them only.

    Args:
        nodes: how many; the cluster goes on while more than half of them see each other.
        settings: settings of every server.

    Raises:
        RuntimeError: Galera, MariaDB or rsync is not installed, or a server does not start.
    """

    def __init__(self, nodes: int = 3, settings: Mapping[str, str] | None = None) -> None:
        provider = find_provider()
        if provider is None:
            raise RuntimeError("no Galera: apt-get install mariadb-server galera-4 rsync")
        name = f"reefknot_{secrets.token_hex(4)}"
        common = {
            "wsrep_on": "ON",
            "wsrep_provider": str(provider),
            "wsrep_cluster_name": name,
            "wsrep_sst_method": "rsync",
            "binlog_format": "ROW",
            "default_storage_engine": "InnoDB",
            "innodb_autoinc_lock_mode": "2",
            **(settings or {}),
        }
        password = secrets.token_hex(8)
        self.servers = [GaleraNode(settings=common, password=password) for _ in range(nodes)]

    @property
    def url(self) -> str:
        """The store URL of the first node."""
        return self.servers[0].url

    @property
    def pids(self) -> list[int]:
        """Every process of the cluster."""
        return [pid for server in self.servers for pid in server.pids]

    def __enter__(self) -> Self:
        started: list[GaleraNode] = []
        try:
            for server in self.servers:
                server.join(list(started))
                started.append(server)
                server.__enter__()
                self.wait_until_joined(len(started))
        except BaseException:
            self.stop()
            raise
        for server in self.servers:  # whoever comes back finds the others
            server.join([other for other in self.servers if other is not server])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop every server and delete the data."""
        for server in self.servers:
            server.stop()

    def wait_until_joined(self, nodes: int) -> None:
        """Wait until every server that runs is in step with a cluster of so many.

        Raises:
            TimeoutError: that does not happen within a minute.
        """
        until = time.monotonic() + _JOIN_SECONDS
        running = [server for server in self.servers if server.pids]
        wanted = [(str(nodes), "Synced")] * len(running)
        while (
            found := [
                (server.status("wsrep_cluster_size"), server.status("wsrep_local_state_comment")) for server in running
            ]
        ) != wanted:
            if time.monotonic() > until:
                raise TimeoutError(f"Galera: {found} instead of {wanted}")
            time.sleep(0.1)
