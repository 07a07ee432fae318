"""Parts of the MySQL store that need no server."""

import pytest

from reefknot.store.mysql.settings import durability_of

GALERA = {"wsrep_cluster_status": "Primary", "wsrep_cluster_size": "3"}


@pytest.mark.parametrize(
    ("flush", "doublewrite", "log", "sync", "level"),
    [
        (1, 1, 0, 0, "full"),
        (1, "ON", 1, 1, "full"),
        (1, "DETECT_AND_RECOVER", 1, 1, "full"),
        (3, "ON", 0, 0, "full"),
        (1, "DETECT_ONLY", 1, 1, "crash"),
        (1, "OFF", 1, 1, "crash"),
        (1, 0, 0, 0, "crash"),
        (1, "ON", 1, 0, "process"),
        (2, "ON", 0, 0, "process"),
        (0, "ON", 1, 1, "none"),
    ],
)
def test_durability(flush, doublewrite, log, sync, level):
    """Also of settings that only some versions have."""
    found = durability_of("db:3306/r", (flush, doublewrite, log, sync, "8.0.36"), {})
    assert found.level == level
    assert found.detail.startswith(f"8.0.36 db:3306/r: innodb_flush_log_at_trx_commit={flush}, ")
    assert f"innodb_doublewrite={doublewrite}" in found.detail


def test_durability_names_a_galera_cluster():
    found = durability_of("db:3306/r", (2, 1, 0, 0, "10.11-MariaDB"), GALERA)
    assert (found.level, "; Galera cluster of 3" in found.detail) == ("process", True)
