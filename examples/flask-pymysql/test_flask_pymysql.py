from urllib.parse import urlsplit

import pymysql


def test_the_money_is_where_it_must_be(finished):
    assert finished.output.count("has too little, or is none") == 3
    at = urlsplit(finished.environment["MARIADB_URL"])
    connection = pymysql.connect(
        host=at.hostname, port=at.port, user=at.username, password=at.password, database=at.path[1:]
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT user_id, balance, trading_balance FROM user_account ORDER BY user_id")
        assert cursor.fetchall() == ((1, 910, 0), (2, 1090, 0))
        cursor.execute("SELECT trans_type, branch_id, op, reason FROM dtm_barrier.barrier ORDER BY id")
        rows = cursor.fetchall()
    # What the refused tcc held for user 1 was released; for user 3 nothing was held, nor can it be any more.
    assert ("tcc", "01", "cancel", "cancel") in rows
    assert ("tcc", "02", "try", "cancel") in rows
