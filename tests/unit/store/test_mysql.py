"""Parts of the MySQL store that need no server."""

import pytest

from reefknot.errors import ConfigError
from reefknot.store.mysql.schema import refuse_old_server
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


@pytest.mark.parametrize(
    "version",
    [
        *("10.6.0-MariaDB", "10.11.6-MariaDB-0+deb12u1-log", "11.4.2-MariaDB", "5.5.5-10.6.12-MariaDB-log"),
        *("8.0.1-dmr", "8.0.15", "8.0.36-0ubuntu0.22.04.1", "8.0.35-27", "8.4.0", "9.1.0", "8.0.28-google"),
        *("8.0.11-TiDB-v7.5.0", "5.7.25-TiDB-v6.1.0", "5.7.25-OceanBase-v4.3.5", "8.0.mysql_aurora.3.05.2", ""),
    ],
)
def test_servers_that_are_new_enough(version):
    refuse_old_server(version)


@pytest.mark.parametrize(
    ("version", "needed"),
    [
        *[(version, "MySQL 8.0.1") for version in ("8.0.0-dmr", "5.7.44-log", "5.5.5")],
        *[(version, "MariaDB 10.6.0") for version in ("10.5.29-MariaDB", "5.5.68-MariaDB", "5.5.5-10.3.39-MariaDB")],
    ],
)
def test_servers_that_are_too_old(version, needed):
    with pytest.raises(ConfigError, match=f"{version}; {needed} or newer"):
        refuse_old_server(version)
