import psycopg


def rows(finished, sql):
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        return connection.execute(sql).fetchall()


def test_the_money_is_where_it_must_be_and_nothing_stays_reserved(finished):
    assert rows(finished, "SELECT name, balance, frozen, incoming FROM account ORDER BY name") == [
        ("alice", 70, 0, 0),
        ("bob", 130, 0, 0),
        ("carol", 0, 0, 0),
    ]


def test_amounts_were_frozen_before_they_were_moved(finished):
    assert "30 to bob: reserved      alice 100 (-30 +0), bob 100 (-0 +30)" in finished.output
    assert "meanwhile:               alice refuses out/try of 80" in finished.output
    assert "her account is closed:   carol refuses in/try of 30" in finished.output


def test_each_branch_ended_in_one_way(finished):
    found = rows(finished, "SELECT gid, branch_id, op, reason FROM dtm_barrier.barrier")
    transfers = sorted(sorted(row[1:] for row in found if row[0] == gid) for gid in {row[0] for row in found})
    # A try that was refused left no row, so its cancel found nothing to free: it wrote the try's row itself.
    assert transfers == [
        [("01", "cancel", "cancel"), ("01", "try", "cancel")],
        [("01", "cancel", "cancel"), ("01", "try", "try"), ("02", "cancel", "cancel"), ("02", "try", "cancel")],
        [("01", "confirm", "confirm"), ("01", "try", "try"), ("02", "confirm", "confirm"), ("02", "try", "try")],
    ]
