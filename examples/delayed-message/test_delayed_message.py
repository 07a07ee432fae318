import re

from sqlalchemy import create_engine, text


def test_the_unpaid_order_is_cancelled_and_the_paid_one_is_not(finished):
    waited = re.search(r"([\d.]+) s  their time is over", finished.output)
    assert float(waited[1]) >= 3
    engine = create_engine(finished.environment["MARIADB_URL"].replace("mysql://", "mysql+pymysql://"))
    with engine.connect() as connection:
        orders = connection.execute(text("SELECT number, state FROM orders ORDER BY number")).all()
        assert orders == [(1, "paid"), (2, "cancelled")]
        assert connection.execute(text("SELECT pieces FROM item")).scalar() == 9
    engine.dispose()
