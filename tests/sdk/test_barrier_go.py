"""One table, two languages: a branch in Go, behind the barrier of DTM's Go client, and ours take turns."""

import contextlib
import itertools
import json
import secrets
import subprocess
from pathlib import Path

import psycopg
import pytest

from interop.peers import build_go
from reefknot.barrier import Barrier, Reason
from reefknot.barrier.statements import Database
from reefknot.errors import Failure
from sdk.barrier_business import Broken, Business, prepare, run_script
from sdk.barrier_connections import LIBRARIES, parts

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "barrier_vectors.json").read_text("utf-8"))
# With the other tests that build Go programs: what one compiles the next finds in Go's cache.
pytestmark = pytest.mark.interop


class GoBranch:
    """The Go program on one database."""

    def __init__(self, program, driver, source):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([program, driver, source], **pipes)

    def __call__(self, step, gid) -> list[bool]:
        call = {name: step[name] for name in ("trans_type", "branch_id", "op")} | {"gid": gid}
        call |= {"pieces": len(step["expect"]), "fails": step.get("fails", False), "asked": step.get("asked", False)}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["error"] == ""
        return answer["ran"]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()


class OurBranch:
    """The same in Python: each piece of work in a transaction of its own."""

    def __init__(self, library):
        self.library = library

    def __call__(self, step, gid) -> list[bool]:
        barrier = Barrier(step["trans_type"], gid, step["branch_id"], step["op"])
        key, ran = (gid, step["branch_id"], step["op"]), []
        with self.library.idle() as connection:
            if step.get("asked"):
                return [committed(barrier, connection)]

            def work(connection):
                self.library.work(connection, key)
                if step.get("fails"):
                    raise Broken

            for _ in step["expect"]:
                with contextlib.suppress(Broken, Failure):
                    barrier.call(connection, work)
                ran.append(barrier.reason is Reason.RUN)
        return ran


def committed(barrier, connection) -> bool:
    try:
        barrier.asked(connection)
    except Failure:
        return False
    return True


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    return build_go("./barrier", tmp_path_factory.mktemp("go") / "barrier")


@pytest.fixture(scope="module", params=["mysql", "postgres"])
def branches(request, program):
    """The Go branch, ours, and what their shared tables hold."""
    name = f"go_{secrets.token_hex(4)}"
    if request.param == "mysql":
        url = request.getfixturevalue("mariadb").create_database(name)
        place = parts(url)
        source = f"{place['user']}:{place['password']}@tcp({place['host']}:{place['port']})/{name}?charset=utf8mb4"
        library, database = LIBRARIES["pymysql"](url), Database.MYSQL
    else:
        server = request.getfixturevalue("postgres")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = server.url_of(name)
        source = f"{url}?sslmode=disable"
        library, database = LIBRARIES["psycopg"](url), Database.POSTGRES
    prepare(database, url)
    if database is Database.MYSQL:
        # Other tests of this server may have made the table, with the collation that DTM's own has.
        run_script(
            database, url, "ALTER TABLE dtm_barrier.barrier CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )
    go = GoBranch(program, request.param, source)
    with contextlib.closing(Business(library)) as business:
        yield go, OurBranch(library), business
    go.close()


def expected(step) -> list[bool]:
    if step.get("asked"):
        return [step["expect"] == [Reason.REPEATED]]
    return [word == Reason.RUN for word in step["expect"]]


@pytest.mark.parametrize("first", ["go", "python"])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(branches, vector, first):
    go, ours, business = branches
    prefix = secrets.token_hex(4)
    turns = itertools.cycle((go, ours) if first == "go" else (ours, go))
    for step in vector["steps"]:
        branch = next(turns)
        assert branch(step, prefix + step["gid"]) == expected(step), (type(branch).__name__, step)
    assert business.rows(prefix) == sorted(map(tuple, vector["rows"]))
    assert business.effects(prefix) == sorted(map(tuple, vector["effects"]))
