import re

import pytest

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.store import check_url, open_store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oracle://x", "there is no store 'oracle'; use one of memory://, "),
        ("postgress://u:secret@h/d", "there is no store 'postgress'; did you mean postgres://? Otherwise use one of"),
        ("POSTGRES://u:secret@h/d", "there is no store 'POSTGRES'; did you mean postgres://?"),
        ("marindb://u:secret@h/d", "did you mean mariadb://?"),
        ("pg://u:secret@h/d", "did you mean postgres://?"),
        ("valkey://h", "did you mean redis://?"),
        ("postgresql+asyncpg://u:secret@h/d", "write postgres:// instead of postgresql+asyncpg://"),
        ("mysql+pymysql://u:secret@h/d", "write mysql:// instead of mysql+pymysql://"),
        ("redis+ring://:secret@h", "there is no scheme 'redis+ring'"),
        ("groupcommit://x", "there is no store 'groupcommit'"),
        ("certificates://x", "there is no store 'certificates'"),
        ("base://x", "there is no store 'base'"),
        ("sqlite.writer://x", "there is no store 'sqlite.writer'"),
        ("os://x", "there is no store 'os'"),
        ("../memory://x", "there is no store"),
        ("plain.db", "without a scheme"),
        ("u:secret@tcp(h)/d", "without a scheme"),
        ("u:secret@h/?x://", "without a scheme"),
        ("memory://named:secret@h", "takes no name"),
        ("sqlite://u:secret@host/file.db", "write sqlite:///relative.db"),
        ("sqlite://u:secret]@host/file.db", "write sqlite:///relative.db"),
        ("sqlite:///", "write sqlite:///relative.db"),
        ("sqlite:////no/such/directory/x.db", "the directory /no/such/directory does not exist"),
        ("sqlite:////tmp", "/tmp is a directory"),
        ("sqlite:////tmp/x.db?mode=ro", "there is no option 'mode'"),
        ("sqlite:////tmp/x.db?writer=fiber", "there is no option 'writer'"),
    ],
)
async def test_wrong_urls(url, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)) as caught:
        await open_store(url, clock=SystemClock(), failpoints=disarmed())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "mysql", "mariadb", "redis", "rediss"])
async def test_schemes_with_the_same_meaning_reach_the_same_store(scheme):
    """Nobody listens; each store says so in its own words."""
    words = {"p": "PostgreSQL|127.0.0.1:1/d", "m": "MySQL 127.0.0.1:1/d", "r": "Redis 127.0.0.1:1"}[scheme[0]]
    with pytest.raises(StoreUnavailable, match=words):
        await open_store(
            f"{scheme}://u:p@127.0.0.1:1/{'0' if scheme[0] == 'r' else 'd'}?wait=0",
            clock=SystemClock(),
            failpoints=disarmed(),
        )


@pytest.mark.parametrize(
    "url",
    [
        *("memory://", "sqlite:////tmp/x.db", "postgres://u@h/d", "postgresql://u@h/d", "mysql://u@h/d"),
        *("mariadb://u@h/d", "redis://h", "rediss://h", "redis+cluster://a:1,b:2", "rediss+sentinel://a/m"),
    ],
)
def test_usable_urls(url):
    check_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oracle://h/db", "there is no store 'oracle'"),
        ("memory://x", "takes no name"),
        ("sqlite:///", "write sqlite:///relative.db"),
        ("sqlite:////tmp/x.db?mode=ro", "there is no option 'mode'"),
        ("sqlite:////tmp/a%00b", "cannot have a NUL"),
        ("postgres://u@h/db?foo=1", "unknown option 'foo'"),
        ("mysql://u@h:0/db", "the port must be a number between 1 and 65535"),
        ("mysql://u@h/db?ssl=verify&ssl=off", "the option ssl is given more than once"),
        ("redis://h?timeout=1&wait=0&timeout=1", "the option timeout is given more than once"),
        ("mysql://h", "write mysql://user:password@host:3306/database"),
        ("rediss://h?foo=1", "unknown option 'foo'"),
    ],
)
def test_a_url_is_checked_without_its_server(url, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        check_url(url)


async def test_relative_and_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///a%20b.db", clock=SystemClock(), failpoints=disarmed())
    assert str(tmp_path / "a b.db") in (await store.durability()).detail
    await store.close()
    assert (tmp_path / "a b.db").stat().st_mode & 0o777 == 0o600
