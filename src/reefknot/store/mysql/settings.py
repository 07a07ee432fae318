"""What a MySQL or MariaDB server does with what it was told to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reefknot.store.base import Durability

#: Values of ``innodb_doublewrite`` with which a torn page is not mended; DETECT_ONLY (MySQL) finds it and no more.
_TORN_PAGES = frozenset({"0", "OFF", "DETECT_ONLY"})


def durability_of(place: str, settings: Sequence[Any], cluster: Mapping[str, str]) -> Durability:
    """What is left after a crash, with the reason in words.

    The level is that of this server alone: a Galera cluster may lose power as a whole.

    Args:
        place: the database, for the text.
        settings: the row of the statement ``durability``.
        cluster: the status variables of ``find_cluster``.
    """
    flush, doublewrite, log, sync, version = settings
    detail = (
        f"{version} {place}: innodb_flush_log_at_trx_commit={flush}, "
        f"innodb_doublewrite={doublewrite}, log_bin={log}, sync_binlog={sync}"
    )
    if cluster.get("wsrep_cluster_status") == "Primary":
        detail += f"; Galera cluster of {cluster['wsrep_cluster_size']}"
    if str(flush) == "0":
        return Durability("none", f"{detail}; a crash of the server loses the last second")
    if str(flush) == "2" or (int(log) and int(sync) != 1):
        return Durability("process", detail)
    return Durability("crash" if str(doublewrite).upper() in _TORN_PAGES else "full", detail)
