import psycopg
import pytest

pytestmark = pytest.mark.interop


@pytest.fixture
def postgres(finished):
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        yield connection


def test_the_money_is_where_it_must_be(finished, postgres):
    assert "Go: nobody cannot be moved by 30" in finished.output
    assert "Python: nobody cannot be moved by 30" in finished.output
    assert postgres.execute("SELECT name, balance FROM west").fetchall() == [("alice", 70)]
    assert postgres.execute("SELECT name, balance FROM east").fetchall() == [("bob", 130)]


def test_both_languages_wrote_the_same_rows(postgres):
    rows = postgres.execute("SELECT gid, branch_id, op, reason FROM dtm_barrier.barrier").fetchall()
    transfers = {gid: sorted(row[1:] for row in rows if row[0] == gid) for gid, *_ in rows}
    done, *undone = sorted(transfers.values(), key=len)
    assert done == [("01", "action", "action"), ("02", "action", "action")]
    # The refused half left nothing; its undo found that out, in Go as in Python, and keeps a late call away.
    refused = [
        ("01", "action", "action"),
        ("01", "compensate", "compensate"),
        ("02", "action", "compensate"),
        ("02", "compensate", "compensate"),
    ]
    assert undone == [refused, refused]
