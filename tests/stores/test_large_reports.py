"""A report that the store cannot hold delays its transaction as any failure does; it is not repeated for ever."""

import secrets

import pymysql
import pytest

from reefknot.model import Status
from reefknot.store.mysql.location import parse_url
from reefknot.testing.participant import Participant, Say
from reefknot.testing.server import LocalServer

STEPS = 900
PACKET = 1_048_576  # bytes; MariaDB's limit, which the texts of 900 participants pass


@pytest.fixture
def small_packets(mariadb):
    """The URL of a database on a server that takes small packets only."""
    url = mariadb.create_database(f"test_{secrets.token_hex(6)}")
    where = parse_url(url)
    with pymysql.connect(host=where.host, port=where.port, user=where.user, password=where.password) as connection:
        connection.cursor().execute(f"SET GLOBAL max_allowed_packet = {PACKET}")
        yield url
        connection.cursor().execute("SET GLOBAL max_allowed_packet = 16777216")


def test_texts_too_long_for_the_store_are_shortened(small_packets):
    text = "ü" * 1_024
    with Participant() as participant, LocalServer(small_packets) as server:
        participant.always("/a", Say(500, text.encode()))
        steps = [{"action": participant.url("/a")}] * STEPS
        body = {"gid": "long", "trans_type": "msg", "steps": steps, "payloads": [""] * STEPS, "concurrent": True}
        assert server.post("submit", body).status == 200
        server.settle()
        left = server.run(server.store.get("long"))
        assert (left.status, left.owner, left.attempts) == (Status.SUBMITTED, "", 1)
        assert "ü".encode() * 32 in left.progress
        assert "ü".encode() * 65 not in left.progress
        assert len(participant.calls) == STEPS
