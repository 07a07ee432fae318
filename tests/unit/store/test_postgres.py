"""Parts of the PostgreSQL store that need no server."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reefknot.errors import ConfigError
from reefknot.store.postgres.location import parse_url
from reefknot.store.postgres.rows import from_text, to_text
from reefknot.store.server_time import StoreTime
from reefknot.testing.clock import ManualClock

TEXTS = st.text(alphabet=st.one_of(st.sampled_from("\0\1\2a"), st.characters(exclude_categories=["Cs"])))


@given(TEXTS)
def test_every_text_comes_back_and_none_holds_nul(text):
    assert from_text(to_text(text)) == text
    assert "\0" not in to_text(text)


@given(TEXTS, TEXTS)
def test_stored_texts_keep_their_order(one, other):
    assert (to_text(one) < to_text(other)) == (one < other)


def test_url_with_everything():
    url = "postgres://u%40x:p%2Fw@db:6543/a%20b?schema=s&pooler=1&connections=3&timeout=2.5&wait=0&sslmode=verify-full"
    location = parse_url(url)
    assert location.dsn == "postgresql://u%40x:p%2Fw@db:6543/a%20b?sslmode=verify-full"
    assert location[1:] == ("db:6543/a b", "s", True, 3, 2.5, 0, False, 500, 300.0, None)


def test_the_authorities_of_the_system_need_nothing_of_the_driver():
    location = parse_url("postgres://db/reefknot?sslrootcert=system&sslpassword=pw&target_session_attrs=read-write")
    assert location.dsn == "postgresql://db/reefknot?target_session_attrs=read-write"
    assert location.system_tls == ("", "", "pw")


def test_url_with_the_least():
    location = parse_url("postgres://localhost/reefknot")
    assert location[1:] == ("localhost:5432/reefknot", "public", False, 8, 5.0, 30.0, False, 500, 300.0, None)


@pytest.mark.parametrize(("options", "connections"), [("max_connections=5", 3), ("max_connections=40", 8)])
def test_the_limit_counts_every_connection_of_a_node(options, connections):
    location = parse_url(f"postgres://db/a?{options}&max_idle=1&lifetime=60")
    assert (location.connections, location.max_idle, location.lifetime) == (connections, 1, 60)


def test_url_of_several_servers():
    location = parse_url("postgres://u:p@one:5433,two:5434/db?target_session_attrs=read-write")
    assert location.dsn == "postgresql://u:p@one:5433,two:5434/db?target_session_attrs=read-write"
    assert location.address == "one:5433,two:5434/db"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgres://u:secret@db", "host:port/database"),
        ("postgres://u:secret@db/", "host:port/database"),
        ("postgres://u:secret@db/a/b", "host:port/database"),
        ("postgres://u:secret@db/a#b", "has a # or an @ behind the server"),
        ("postgres://u:secret#x@db/a", "has a # or an @ behind the server"),
        ("postgres://u:secret?x@db/a", "host:port/database"),
        ("postgres://u:12#secret@db/a", "has a # or an @ behind the server"),
        ("postgres://u:12/secret@db", "has a # or an @ behind the server"),
        ("postgres://u:12?secret=x@db/a", "host:port/database"),
        ("postgres://u:p@12/d?secret@db/a", "unknown option (in a user or password write"),
        ("postgres://u:secret]s@db/a", "server cannot be read; in a user or password write"),
        ("postgres://u:secret\uff0fx@db/a", "server cannot be read"),
        ("postgres://u:secret@db:http/a", "port must be a number"),
        ("postgres://u:secret@db:70000/a", "port must be a number"),
        ("postgres://u:secret@db:0/a", "port must be a number"),
        ("postgres://u:secret@one:1,two:0/a", "port must be a number"),
        ("postgres://u:secret@db/a?timeout=1&pooler=1&timeout=900", "the option timeout is given more than once"),
        ("postgres://u:secret@db/a?shema=x", "unknown option 'shema'"),
        ("postgres://u:secret@db/a?pooler=yes", "pooler must be 0 or 1, not 'yes'"),
        ("postgres://u:secret@db/a?connections=0", "connections must be a number from 1 to 1000"),
        ("postgres://u:secret@db/a?max_connections=2", "max_connections (Store.MaxOpenConns) must be a number from 3"),
        ("postgres://u:secret@db/a?lifetime=-1", "lifetime must be a number from 0"),
        ("postgres://u:secret@db/a?timeout=x", "timeout must be a number"),
        ("postgres://u:secret@db/a?timeout=nan", "timeout must be a number"),
        ("postgres://u:secret@db/a?schema=" + "x" * 64, "at most 63 bytes"),
        ("postgres://u:secret@db/a?clock=mine", "clock must be database or process"),
    ],
)
def test_wrong_urls(url, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


async def _advance(clock, milliseconds):
    await clock.advance(milliseconds / 1000)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_estimate_of_the_databases_clock():
    clock = ManualClock()
    store_time = StoreTime(clock, own=False)
    assert store_time.given is None
    sent = store_time.sent()
    await _advance(clock, 100)  # the reply took 100 ms and says 5,000: now it is 5,000 to 5,100
    store_time.replied(sent, 5_000)
    assert store_time.now_ms() == 5_000
    await _advance(clock, 50)
    assert store_time.now_ms() == 5_050
    clock.jump_wall(3_600)  # our wall clock does not matter
    assert store_time.now_ms() == 5_050
    sent = store_time.sent()
    store_time.replied(sent, 5_080)  # a quick reply knows better
    assert store_time.now_ms() == 5_080
    sent = store_time.sent()
    await _advance(clock, 400)
    store_time.replied(sent, 5_081)  # a slow one does not set it back
    assert store_time.now_ms() == 5_480
    store_time.replied(store_time.sent(), 2_000)  # the database's clock was set back
    assert store_time.now_ms() in (2_000, 2_001)


@pytest.mark.anyio
async def test_own_clock():
    clock = ManualClock()
    store_time = StoreTime(clock, own=True)
    store_time.replied(store_time.sent(), 1)
    await _advance(clock, 5_000)
    assert store_time.given == store_time.now_ms() == clock.now_ms()
