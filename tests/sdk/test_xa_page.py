"""The program on the page about xa works as it stands there."""

import re
from pathlib import Path

import pymysql
import pytest

from reefknot import Client
from reefknot.testing.server import LocalServer
from sdk.test_xa import SAME, new_gid, target
from sdk.xa_bank import PyMySql, XaBanks

PAGE = Path(__file__).parents[2] / "docs" / "sdk" / "xa.md"


def program(number):
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)[number]


def test_the_flask_service_takes_part(mariadb):
    with LocalServer() as server, XaBanks(PyMySql, mariadb.create_database("xa_page"), server.url) as banks:
        with banks.sql() as run:
            run("INSERT INTO account VALUES ('alice', 50)")
        names = {"__name__": "service"}
        exec(compile(program(1), str(PAGE), "exec"), names)
        names["tm"] = Client(server.url)
        names["connect"] = lambda: banks.library.connect(banks.url)
        service = names["app"].test_client()

        with Client(server.url) as client:
            gid = new_gid()
            with client.xa(gid) as xa:
                query = {"gid": gid, "trans_type": "xa", "branch_id": "01", "phase2_url": banks.at("/out")}
                assert service.post(target("/out", query, "action"), json={"amount": 30}).status_code == 200
                assert service.post(target("/out", query, "commit")).status_code == 200
                xa.call(banks.at("/in"), {"amount": 0})
            assert banks.balances() == SAME | {"alice": 20}
            query["branch_id"] = "09"
            refused = service.post(target("/out", query, "action"), json={"amount": 30})
            assert (refused.status_code, refused.text.splitlines()[0]) == (409, "not enough money")
            server.settle()


def test_the_clients_program_is_python():
    compile(program(0), str(PAGE), "exec")
    with pytest.raises(pymysql.err.OperationalError):
        pymysql.connect(host="127.0.0.1", port=1)
