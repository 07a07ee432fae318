"""What a Redis URL may say, and how the buckets are laid over the slots."""

import pytest

from reefknot.config.schema import Store
from reefknot.errors import ConfigError
from reefknot.store.redis.address import parse_url
from reefknot.store.redis.merging import first_of_all, newest_of_all
from reefknot.store.redis.servers import SLOTS, bucket_tags, slot_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"kind": "single", "seeds": (("h", 6379),), "tls": False, "database": 0, "prefix": "reefknot"}),
        ("redis://u%40x:p%3Aw@h:1/7", {"user": "u@x", "password": "p:w", "seeds": (("h", 1),), "database": 7}),
        ("redis://:pw@[::1]:6380/", {"user": "", "password": "pw", "seeds": (("::1", 6380),)}),
        ("rediss://h", {"tls": True}),
        ("redis+cluster://a:1,b:2", {"kind": "cluster", "seeds": (("a", 1), ("b", 2))}),
        ("redis://a:1,b:2/?prefix=x", {"kind": "cluster", "prefix": "x"}),
        ("rediss+cluster://a", {"kind": "cluster", "tls": True}),
        (
            "redis+sentinel://:p@a,b:2/bank/3",
            {"kind": "sentinel", "seeds": (("a", 26379), ("b", 2)), "master_name": "bank", "database": 3},
        ),
        ("redis://h?prefix=%7Ba%7D", {"prefix": "a"}),
        ("redis://h?buckets=48&timeout=2.5&wait=0&allow-eviction=1", {"buckets": 48, "allow_eviction": True}),
        ("redis://h?timeout=2.5&wait=0", {"timeout_seconds": 2.5, "wait_seconds": 0.0}),
    ],
)
def test_urls(url, expected):
    address = parse_url(url)
    assert {name: getattr(address, name) for name in expected} == expected
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("redis://", "host:port"),
        ("redis://:secret@h:0", "host:port"),
        ("redis://:secret@h:99999", "host:port"),
        ("redis://:secret@h/x", "database number"),
        ("redis://:secret@h/1/2", "database number"),
        ("redis+cluster://:secret@h/1", "only database 0"),
        ("redis+sentinel://:secret@h", "name of the master"),
        ("redis+smoke://:secret@h", "no scheme 'redis\\+smoke'"),
        ("redis://:secret@h?shard=1", "unknown option 'shard'"),
        ("redis://:secret@h?buckets=0x", "buckets must be"),
        ("redis://:secret@h?buckets=257", "buckets must be"),
        ("redis://:secret@h?timeout=0", "timeout must be"),
        ("redis://:secret@h?timeout=soon", "timeout must be"),
        ("redis://:secret@h?wait=-1", "wait must be"),
        ("redis://:secret@h?allow-eviction=yes", "allow-eviction must be"),
        ("redis://:secret@h?clock=mine", "clock must be"),
        ("redis://:secret@h?prefix=%7B%7D", "prefix must have"),
        ("redis://:secret#9x@h:6379/0", "write # as %23"),
        ("redis://:secret x@h:6379/0", "a space as %20"),
        ("redis://:a\nsecret@h:6379/0", "a space as %20"),
        ("redis://:secret/x@h:6379/0", "as %2F"),
        ("redis://u:12/secret@h:6379/0", "database number.*as %2F"),
        ("redis://u:12?secret@h:6379/0", "unknown option \\(in a user or password"),
        ("redis://:secret@h?tls-ca=/etc/ssl/ca.pem", "tls-ca needs an encrypted connection; write rediss"),
        ("redis+cluster://:secret@h?tls-cert=/c&tls-key=/k", "tls-cert needs an encrypted"),
        ("redis+sentinel://:secret@h/m?tls-key=/k", "tls-key needs an encrypted"),
        ("rediss://:secret@h?tls-key=/k", "add tls-cert"),
    ],
)
def test_wrong_urls_are_refused_without_showing_the_password(rest, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_url(rest)
    assert "secret" not in str(caught.value)


def test_missing_certificate_files():
    with pytest.raises(ConfigError, match="tls-ca: cannot read /no/such/file"):
        parse_url("rediss://h?tls-ca=/no/such/file")


def test_what_dtms_keys_come_to():
    store = Store(driver="redis", host="h", port=6379)
    assert parse_url(store.location().reveal()).prefix == "a"
    assert parse_url(Store(driver="redis", host="a:1,b:2", port=1).location().reveal()).kind == "cluster"


def test_slots_are_those_of_redis():
    assert slot_of("123456789") == 0x31C3
    assert slot_of("user1000") == 3443


@pytest.mark.parametrize("buckets", [1, 2, 24, 48, 100, 256])
def test_buckets_lie_evenly_over_the_slots(buckets):
    tags = bucket_tags(buckets)
    assert len(set(tags)) == buckets
    assert [slot_of(tag) * buckets // SLOTS for tag in tags] == list(range(buckets))


def test_a_bucket_that_has_more_limits_what_can_be_ranked():
    told = {0: ([(1, b"a"), (4, b"b")], True), 1: ([(2, b"c"), (9, b"d")], False), 2: ([], False)}
    assert first_of_all(told, 10) == ({0: 2, 1: 1}, True)
    assert first_of_all(told, 2) == ({0: 1, 1: 1}, True)
    assert first_of_all({0: ([(1, b"a")], False), 1: ([], False)}, 5) == ({0: 1}, False)
    assert first_of_all({0: ([(1, b"a"), (2, b"b")], False)}, 1) == ({0: 1}, True)


def test_newest_members_of_all_buckets():
    assert newest_of_all([(0, [b"f", b"d"], True), (1, [b"e", b"a"], False)]) == (
        [(b"f", 0), (b"e", 1), (b"d", 0)],
        True,
    )
    assert newest_of_all([(0, [b"b"], False), (1, [], False)]) == ([(b"b", 0)], False)
