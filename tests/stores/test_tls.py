"""Encrypted connections to each kind of server: who is believed, who is refused, and in which words."""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest
import trustme

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.testing.conformance.store.building import create, new, record, step
from reefknot.testing.databases import mariadb as mariadb_server
from reefknot.testing.databases import postgres as postgres_server
from reefknot.testing.databases import redis as redis_server
from reefknot.testing.databases.processes import free_port
from reefknot.testing.databases.redis import RedisServer
from reefknot.testing.databases.sentinel import RedisSentinel

pytestmark = pytest.mark.anyio

NO_FILE = "(sslrootcert|ssl_ca|tls-ca): cannot read .*none.pem: No such file"


@pytest.fixture(scope="module")
def files():
    """Certificates of our authority and of a foreign one, in a folder that the servers' users can read."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield filled(Path(name))


def filled(folder):
    ours, foreign = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    foreign.cert_pem.write_to_path(folder / "foreign-ca.pem")
    for name, authority, identity, common_name in (
        ("server", ours, "127.0.0.1", "server"),
        ("elsewhere", ours, "db.example.com", "server"),
        ("client", ours, "certified@example.com", "certified"),
        ("foreign-client", foreign, "certified@example.com", "certified"),
    ):
        issued = authority.issue_cert(identity, common_name=common_name)
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


async def works(url):
    """Open a store, use it and return it closed."""
    store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    await store.reset()
    await create(store, new())
    assert await store.write(step())
    assert (await record(store)).version == 2
    await store.close()


async def refused(url, kind, words):
    """The words that opening ends with; at once, although the URL allows it to wait for long."""
    started = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        await open_store(url, clock=SystemClock(), failpoints=disarmed())
    assert time.monotonic() - started < 5
    return str(caught.value)


# --- PostgreSQL -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres_tls(files):
    """Takes encrypted connections only, and the user ``certified`` only with its certificate."""
    if postgres_server.find_programs() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    with postgres_server.PostgresServer(fsync=False) as server:
        data = server._directory / "data"
        for name in ("server.pem", "server.key", "ca.pem"):
            shutil.copy(files / name, data)
            (data / name).chmod(0o600)
            if server._user:
                shutil.chown(data / name, server._user)
        (data / "pg_hba.conf").write_text(
            "hostssl all certified 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        server._settings |= {
            "ssl": "on",
            "ssl_cert_file": "server.pem",
            "ssl_key_file": "server.key",
            "ssl_ca_file": "ca.pem",
        }
        try:
            server.restart()
        except RuntimeError as error:
            if "SSL is not supported" in str(error):
                pytest.skip("this PostgreSQL was built without TLS")
            raise
        yield server


async def test_postgres_believes_the_authority(postgres_tls, files):
    url = f"{postgres_tls.url}?wait=20"
    for options in ("sslmode=require", "sslmode=verify-ca", "sslmode=verify-full"):
        await works(f"{url}&{options}&sslrootcert={files}/ca.pem")
    await works(f"{url}&sslmode=require")
    connection = await asyncpg.connect(f"{postgres_tls.url.replace('postgres', 'postgresql', 1)}?sslmode=require")
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()


async def test_postgres_of_a_foreign_authority_is_refused(postgres_tls, files):
    for mode in ("verify-ca", "verify-full"):
        url = f"{postgres_tls.url}?wait=20&sslmode={mode}&sslrootcert={files}/foreign-ca.pem"
        text = await refused(url, ConfigError, "the server's certificate is not accepted: .*check sslmode")
        assert postgres_tls._password not in text
    await refused(f"{postgres_tls.url}?wait=20&sslmode=disable", ConfigError, "no encryption|no pg_hba.conf entry")
    await refused(f"{postgres_tls.url}?wait=20&sslmode=verify-ca&sslrootcert={files}/none.pem", ConfigError, NO_FILE)


async def test_postgres_under_another_name_is_refused(postgres_tls, files):
    url = postgres_tls.url.replace("127.0.0.1", "localhost") + f"?wait=20&sslrootcert={files}/ca.pem"
    await works(f"{url}&sslmode=verify-ca")
    await refused(f"{url}&sslmode=verify-full", ConfigError, "not accepted: Hostname mismatch.*'localhost'")


async def test_postgres_believes_the_authorities_of_the_system(postgres_tls, files, monkeypatch):
    url = f"{postgres_tls.url}?wait=20&sslrootcert=system"
    await refused(url, ConfigError, "the server's certificate is not accepted: .*check sslmode")
    monkeypatch.setenv("SSL_CERT_FILE", f"{files}/ca.pem")
    await works(url)
    await works(f"{url}&sslmode=verify-full")
    elsewhere = url.replace("127.0.0.1", "localhost")
    await refused(elsewhere, ConfigError, "not accepted: Hostname mismatch.*'localhost'")
    await refused(f"{url}&sslmode=require", ConfigError, "sslrootcert=system needs sslmode=verify-full")
    await refused(f"{url}&sslcrl={files}/ca.pem", ConfigError, "sslcrl has no effect with sslrootcert=system")

    await postgres_tls_role(postgres_tls)
    address = f"postgres://certified@127.0.0.1:{postgres_tls.port}/test?wait=20&schema=certified&sslrootcert=system"
    await works(f"{address}&sslcert={files}/client.pem&sslkey={files}/client.key")
    await refused(address, ConfigError, "requires a valid client certificate")
    mixed = f"{address}&sslcert={files}/client.pem&sslkey={files}/server.key"
    await refused(mixed, ConfigError, "sslcert, sslkey: cannot be used together")


async def test_postgres_without_an_authority_says_what_to_add(postgres_tls, tmp_path, monkeypatch):
    """As the service of deploy/: its home directory has no certificates."""
    monkeypatch.setenv("HOME", str(tmp_path))
    url = f"{postgres_tls.url}?wait=20&sslmode=verify-full"
    await refused(
        url, ConfigError, "root certificate file .* add sslrootcert=/path/of/the-authority.pem .*or sslrootcert=system"
    )


async def test_postgres_asks_for_the_clients_certificate(postgres_tls, files):
    await postgres_tls_role(postgres_tls)
    address = f"postgres://certified@127.0.0.1:{postgres_tls.port}/test?wait=20&schema=certified&sslmode=verify-full"
    address += f"&sslrootcert={files}/ca.pem"
    await works(f"{address}&sslcert={files}/client.pem&sslkey={files}/client.key")
    await refused(address, ConfigError, "requires a valid client certificate")
    foreign = f"{address}&sslcert={files}/foreign-client.pem&sslkey={files}/foreign-client.key"
    with pytest.raises((ConfigError, StoreUnavailable)):
        await open_store(foreign.replace("wait=20", "wait=0"), clock=SystemClock(), failpoints=disarmed())


async def postgres_tls_role(server):
    connection = await asyncpg.connect(f"{server.url.replace('postgres', 'postgresql', 1)}?sslmode=require")
    if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = 'certified'"):
        await connection.execute("CREATE ROLE certified LOGIN")
    await connection.execute("GRANT CREATE ON DATABASE test TO certified")
    await connection.close()


# --- MySQL ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mariadb_tls(files):
    """Takes encrypted connections only, and the user ``certified`` only with a certificate."""
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    settings = {
        "ssl_cert": f"{files}/server.pem",
        "ssl_key": f"{files}/server.key",
        "ssl_ca": f"{files}/ca.pem",
        "require_secure_transport": "ON",
    }
    with mariadb_server.MariaDbServer(settings=settings) as server:
        server._run_sql("CREATE USER certified IDENTIFIED BY 'pw' REQUIRE X509; GRANT ALL ON test.* TO certified")
        yield server


async def test_mysql_believes_the_authority(mariadb_tls, files):
    for options in ("ssl=require", f"ssl=verify-ca&ssl_ca={files}/ca.pem", f"ssl=verify&ssl_ca={files}/ca.pem"):
        await works(f"{mariadb_tls.url}?wait=20&{options}")
    store = await open_store(f"{mariadb_tls.url}?ssl_ca={files}/ca.pem", clock=SystemClock(), failpoints=disarmed())
    ((_, cipher),) = await store._reading.run(lambda session: session.rows("SHOW STATUS LIKE 'Ssl_cipher'"))
    assert cipher
    await store.close()


async def test_mysql_of_a_foreign_authority_is_refused(mariadb_tls, files):
    words = "the server's certificate is not accepted: .*check ssl_ca"
    for options in ("ssl=verify", f"ssl=verify&ssl_ca={files}/foreign-ca.pem", f"ssl_ca={files}/foreign-ca.pem"):
        text = await refused(f"{mariadb_tls.url}?wait=20&{options}", ConfigError, words)
        assert mariadb_tls._password not in text
    await refused(f"{mariadb_tls.url}?wait=20", ConfigError, "Access denied|insecure transport")
    await refused(f"{mariadb_tls.url}?ssl_ca={files}/none.pem", ConfigError, NO_FILE)


async def test_mysql_under_another_name_is_refused(mariadb_tls, files):
    url = mariadb_tls.url.replace("127.0.0.1", "localhost") + f"?wait=20&ssl_ca={files}/ca.pem"
    await works(f"{url}&ssl=verify-ca")
    await refused(f"{url}&ssl=verify", ConfigError, "not accepted: Hostname mismatch.*'localhost'")


async def test_mysql_asks_for_the_clients_certificate(mariadb_tls, files):
    url = f"mysql://certified:pw@127.0.0.1:{mariadb_tls.port}/test?wait=20&ssl_ca={files}/ca.pem"
    await works(f"{url}&ssl_cert={files}/client.pem&ssl_key={files}/client.key")
    await refused(url, ConfigError, "Access denied")


# --- Redis ----------------------------------------------------------------------------------------


def redis_settings(files, port, name="server"):
    return {
        "tls-port": str(port),
        "tls-cert-file": f"{files}/{name}.pem",
        "tls-key-file": f"{files}/{name}.key",
        "tls-ca-cert-file": f"{files}/ca.pem",
    }


@contextlib.contextmanager
def redis_with_tls(settings):
    server = RedisServer("off", settings)
    try:
        server.__enter__()
    except RuntimeError as error:
        if "Bad directive" in str(error) or "TLS support" in str(error):
            pytest.skip("this Redis was built without TLS")
        raise
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def redis_tls(files):
    """Asks every client for a certificate."""
    if redis_server.find_program() is None:
        pytest.skip("no Redis on this machine: apt-get install redis-server")
    port = free_port()
    with redis_with_tls(redis_settings(files, port)) as server:
        server.tls_port = port
        yield server


async def test_redis_with_certificates_of_both_sides(redis_tls, files):
    address = f":{redis_tls.password}@127.0.0.1:{redis_tls.tls_port}"
    pair = f"tls-cert={files}/client.pem&tls-key={files}/client.key"
    await works(f"rediss://{address}?wait=20&tls-ca={files}/ca.pem&{pair}")
    words = "the server's certificate is not accepted: .*check tls-ca"
    for options in (pair, f"tls-ca={files}/foreign-ca.pem&{pair}"):
        text = await refused(f"rediss://{address}?wait=20&{options}", ConfigError, words)
        assert redis_tls.password not in text
    other_name = address.replace("127.0.0.1", "localhost")
    await refused(f"rediss://{other_name}?wait=20&tls-ca={files}/ca.pem&{pair}", ConfigError, "mismatch.*'localhost'")
    for options in ("", f"&tls-cert={files}/foreign-client.pem&tls-key={files}/foreign-client.key"):
        url = f"rediss://{address}?wait=0&tls-ca={files}/ca.pem{options}"
        await refused(url, StoreUnavailable, "(?i)certificate|unknown ca|closed the connection")
    await refused(f"rediss://{address}?tls-ca={files}/none.pem", ConfigError, NO_FILE)


async def test_sentinel_and_its_master_are_reached_encrypted(files):
    if redis_server.find_program() is None:
        pytest.skip("no Redis on this machine: apt-get install redis-server")
    ports = [free_port(), free_port()]
    own, sentinels = [{**redis_settings(files, port), "tls-auth-clients": "no"} for port in ports]
    with (
        redis_with_tls(own) as master,
        RedisSentinel(master, master_port=ports[0], settings={**sentinels, "tls-replication": "yes"}),
    ):
        url = f"rediss+sentinel://:{master.password}@127.0.0.1:{ports[1]}/bank"
        await works(f"{url}?wait=20&tls-ca={files}/ca.pem")
        await refused(f"{url}?wait=20&tls-ca={files}/foreign-ca.pem", ConfigError, "certificate is not accepted")
