import psycopg
import pytest


@pytest.fixture
def postgres(finished):
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        yield connection


def test_the_money_is_where_it_must_be(postgres):
    assert dict(postgres.execute("SELECT name, balance FROM account")) == {"alice": 70, "bob": 130}


def test_the_transfer_went_on_after_the_kill_and_did_nothing_twice(finished):
    before, after = finished.output.split("   the worker is killed (SIGKILL) {'alice': 70, 'bob': 100}\n")
    assert before.count("worker  reviews 30") == 1  # it has no result yet, so it is done again
    assert "worker  reviews 30" in after
    assert finished.output.count("bank    Out alice -30") == 1
    assert finished.output.count("bank    In bob +30: run") == 1
    assert "bob has 30 from alice {'alice': 70, 'bob': 130}" in after


def test_the_decision_in_the_middle_undid_the_other_transfer(finished, postgres):
    assert "rolled back: 60 from alice to bob is too much" in finished.output
    rows = postgres.execute("SELECT gid, op, reason FROM dtm_barrier.barrier WHERE op <> 'action'").fetchall()
    ((gid, *undone),) = rows
    assert undone[0] == undone[1]
    actions = "SELECT count(*) FROM dtm_barrier.barrier WHERE op = 'action' AND reason = 'action' AND gid = %s"
    assert postgres.execute(actions, (gid,)).fetchone() == (1,)
