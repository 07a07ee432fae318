"""Private database servers for tests: real ones, on free ports, in temporary directories.

Each is a context manager that starts a server nobody else uses and removes it afterwards::

    @pytest.fixture(scope="session")
    def postgres():
        with PostgresServer() as server:
            yield server

    async def test_order(postgres):
        store = await open_store(postgres.url, clock=SystemClock(), failpoints=disarmed())
"""
