"""Money from one bank to another: FastAPI, SQLAlchemy and PostgreSQL.

Needs: postgres
Packages: fastapi, sqlalchemy, asyncpg
"""

import json
import os
import urllib.request

from bank import Bank
from reefknot import Client, RolledBack
from reefknot.testing.services import serving

database = os.environ["POSTGRES_URL"]
tm = Client()  # the server of $DTM_SERVER


def transfer(bank, amount, to):
    with tm.saga(wait=True) as saga:  # submitted at the end of the block
        saga.step(f"{bank}/out", f"{bank}/out/undo", {"account": "alice", "amount": amount})
        saga.step(f"{bank}/in", f"{bank}/in/undo", {"account": to, "amount": amount})


def balances(bank):
    with urllib.request.urlopen(f"{bank}/balances") as answer:
        return json.load(answer)


with serving(Bank(database, {"alice": 100, "bob": 100}).app) as bank:
    print("at first       ", balances(bank))

    transfer(bank, 30, to="bob")
    print("30 to bob      ", balances(bank))

    try:
        transfer(bank, 30, to="nobody")
    except RolledBack as error:
        print("30 to nobody   ", balances(bank))
        print("rolled back:   ", error.reason)

    assert balances(bank) == {"alice": 70, "bob": 130}
