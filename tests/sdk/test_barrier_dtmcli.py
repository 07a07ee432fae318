"""One table, two clients: the last release of DTM's Python client and ours take turns in every vector.

The table is the one that DTM's SQL files make, which is how it stands where DTM has been used.
"""

import contextlib
import itertools
import json
import secrets
from pathlib import Path

import pymysql
import pytest
from dtmcli.barrier import BranchBarrier
from dtmcli.utils import DTMFailureError

from reefknot.barrier import Barrier, Reason
from reefknot.barrier.statements import Database, table_sql
from reefknot.errors import Failure
from sdk.barrier_business import administrator, run_script
from sdk.barrier_connections import parts

VECTORS = [
    vector
    for vector in json.loads((Path(__file__).parent / "barrier_vectors.json").read_text("utf-8"))
    if "dtmcli" not in vector.get("not_of", ())
]
pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def url(mariadb):
    url = mariadb.create_database(f"mixed_{secrets.token_hex(4)}")
    run_script(Database.MYSQL, url, table_sql(Database.MYSQL).replace("utf8mb4_bin", "utf8mb4_general_ci"))
    return url


class Broken(Exception):
    """The business fails."""


def breaks(_):
    raise Broken


def ours(connection, step, gid) -> list[bool]:
    """Which of the pieces of work ran; None for the check-back stands for a refusal."""
    barrier = Barrier(step["trans_type"], gid, step["branch_id"], step["op"])
    ran = []
    if step.get("asked"):
        with contextlib.suppress(Failure):
            barrier.asked(connection)
            ran.append(True)
        return ran or [False]
    for _ in step["expect"]:
        with contextlib.suppress(Broken, Failure):
            barrier.call(connection, breaks if step.get("fails") else lambda _: None)
        ran.append(barrier.reason is Reason.RUN)
    return ran


def theirs(connection, step, gid) -> list[bool]:
    barrier = BranchBarrier(step["trans_type"], gid, step["branch_id"], step["op"])
    ran = []
    with contextlib.closing(connection.cursor()) as cursor:
        if step.get("asked"):
            with contextlib.suppress(DTMFailureError):
                barrier.query_prepared(cursor)
                ran.append(True)
            connection.commit()
            return ran or [False]

        def work(_):
            ran.append(True)
            if step.get("fails"):
                raise Broken

        for number in range(1, len(step["expect"]) + 1):
            try:
                barrier.call(cursor, work)
            except Broken:
                continue
            except Exception as error:
                if "msg duplicate" not in str(error):
                    raise
            ran += [False] * (number - len(ran))
    return ran


def expected(step) -> list[bool]:
    if step.get("asked"):
        return [step["expect"] == [Reason.REPEATED]]
    return [word == Reason.RUN for word in step["expect"]]


@pytest.mark.parametrize(
    "turns", [(theirs, ours), (ours, theirs), (theirs,)], ids=["theirs first", "ours first", "theirs"]
)
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(url, vector, turns):
    prefix = secrets.token_hex(4)
    clients = itertools.cycle(turns)
    with contextlib.closing(pymysql.connect(**parts(url))) as connection:
        for step in vector["steps"]:
            client = next(clients)
            assert client(connection, step, prefix + step["gid"]) == expected(step), (client.__name__, step)
    with administrator(Database.MYSQL, url) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT gid, branch_id, op, barrier_id, reason FROM dtm_barrier.barrier WHERE gid LIKE %s", (f"{prefix}%",)
        )
        rows = [(gid.removeprefix(prefix), *rest) for gid, *rest in cursor.fetchall()]
    assert sorted(rows) == sorted(map(tuple, vector["rows"]))
