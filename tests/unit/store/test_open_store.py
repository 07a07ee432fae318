import re

import pytest

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError
from reefknot.failpoints import disarmed
from reefknot.store import open_store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oracle://x", "there is no store 'oracle'; use one of memory://, "),
        ("groupcommit://x", "there is no store 'groupcommit'"),
        ("base://x", "there is no store 'base'"),
        ("sqlite.writer://x", "there is no store 'sqlite.writer'"),
        ("os://x", "there is no store 'os'"),
        ("../memory://x", "there is no store"),
        ("plain.db", "without a scheme"),
        ("memory://named", "takes no name"),
        ("sqlite://host/file.db", "write sqlite:///relative.db"),
        ("sqlite:///", "write sqlite:///relative.db"),
        ("sqlite:////no/such/directory/x.db", "the directory /no/such/directory does not exist"),
        ("sqlite:////tmp", "/tmp is a directory"),
        ("sqlite:////tmp/x.db?mode=ro", "there is no option 'mode'"),
        ("sqlite:////tmp/x.db?writer=fiber", "there is no option 'writer'"),
    ],
)
async def test_wrong_urls(url, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        await open_store(url, clock=SystemClock(), failpoints=disarmed())


async def test_relative_and_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///a%20b.db", clock=SystemClock(), failpoints=disarmed())
    assert str(tmp_path / "a b.db") in (await store.durability()).detail
    await store.close()
    assert (tmp_path / "a b.db").stat().st_mode & 0o777 == 0o600
