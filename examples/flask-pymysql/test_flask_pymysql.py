from urllib.parse import urlsplit

import pymysql


def test_the_money_is_where_it_must_be(finished):
    assert finished.output.count("user 1 has too little") == 2
    at = urlsplit(finished.environment["MARIADB_URL"])
    connection = pymysql.connect(
        host=at.hostname, port=at.port, user=at.username, password=at.password, database=at.path[1:]
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT user_id, balance, trading_balance FROM user_account ORDER BY user_id")
        assert cursor.fetchall() == ((1, 910, 0), (2, 1090, 0))
        cursor.execute("SELECT trans_type, op, reason FROM dtm_barrier.barrier WHERE reason != op ORDER BY id")
        # Of the refused tcc nothing was tried, and the cancel made sure that it cannot be any more.
        assert ("tcc", "try", "cancel") in cursor.fetchall()
