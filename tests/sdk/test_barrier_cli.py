"""``reefknot barrier``: the printed table works, defects of a table are found, only what is over is cleaned."""

import json
import secrets
import sqlite3
import sys

import pytest

from reefknot.barrier import Barrier
from reefknot.barrier.statements import Database, table_sql
from reefknot.cli import main
from reefknot.testing.participant import ONGOING, Participant
from reefknot.testing.server import LocalServer
from sdk.barrier_business import administrator, run_script
from sdk.barrier_connections import mysqldb

OLD = {
    Database.SQLITE: "UPDATE {table} SET create_time = datetime('now', '-{days} days') WHERE gid = '{gid}'",
    Database.POSTGRES: "UPDATE {table} SET create_time = now() - interval '{days} days' WHERE gid = '{gid}'",
    Database.MYSQL: "UPDATE {table} SET create_time = now() - INTERVAL {days} DAY WHERE gid = '{gid}'",
}
INSERT = "INSERT INTO {table} (trans_type, gid, branch_id, op, barrier_id, reason) VALUES ('saga', '{gid}', '{branch}', 'action', '01', 'action')"  # noqa: E501 - one statement


class Place:
    """An empty database: its kind, what drivers call it, and its URL on the command line."""

    def __init__(self, database, address, url):
        self.database, self.address, self.url = database, address, url

    def run(self, script):
        run_script(self.database, self.address, script)

    def all(self, statement):
        with administrator(self.database, self.address) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
def place(request, tmp_path):
    name = f"cli_{secrets.token_hex(4)}"
    if request.param == "sqlite":
        file = tmp_path / "bank.db"
        sqlite3.connect(file).close()
        file.touch()
        return Place(Database.SQLITE, str(file), f"sqlite:///{file}")
    if request.param == "postgres":
        import psycopg

        server = request.getfixturevalue("postgres")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return Place(Database.POSTGRES, server.url_of(name), server.url_of(name))
    url = request.getfixturevalue("mariadb").create_database(name)
    return Place(Database.MYSQL, url, url)


def reefknot(capsys, *words):
    """Exit code and output of a command."""
    code = main(["barrier", *words])
    return code, capsys.readouterr().out


def check(capsys, place, *words):
    code, out = reefknot(capsys, "check", place.url, "--json", *words)
    return code, {finding["check"]: finding for finding in json.loads(out)}


@pytest.mark.parametrize("table", ["", "own_barrier"])
def test_the_printed_table_is_right(place, capsys, table):
    words = ["--table", table] if table else []
    code, script = reefknot(capsys, "sql", "--db", place.database.value, *words)
    assert code == 0
    place.run(script)
    place.run(script)  # it may be run again
    code, found = check(capsys, place, *words)
    assert (code, {finding["state"] for finding in found.values()}) == (0, {"ok"}), found


def test_mariadb_is_mysql(capsys):
    _, script = reefknot(capsys, "sql", "--db", "mysql")
    assert reefknot(capsys, "sql", "--db", "mariadb") == (0, script)


def test_a_missing_table_is_wrong(place, capsys):
    code, found = check(capsys, place, "--table", "nowhere")
    assert (code, list(found)) == (1, ["table"])
    assert found["table"]["fix"] == f"reefknot barrier sql --db {place.database} --table nowhere"


def test_defects_are_found_and_the_fixes_repair_them(place, capsys):
    place.run(
        "CREATE TABLE barrier (id int PRIMARY KEY, trans_type varchar(45), gid varchar(64), branch_id varchar(128),"
        " op varchar(45), barrier_id varchar(45), create_time timestamp)"
        + (" ENGINE = MyISAM CHARACTER SET latin1" if place.database is Database.MYSQL else "")
    )
    code, found = check(capsys, place, "--table", "barrier")
    wrong = {name for name, finding in found.items() if finding["state"] == "wrong"}
    expected = {"columns", "unique key"} | ({"engine"} if place.database is Database.MYSQL else set())
    assert (code, wrong) == (1, expected)
    for _ in range(3):  # a finding at a time: some fixes wait for others
        for finding in found.values():
            if finding["fix"]:
                place.run(finding["fix"])
        code, found = check(capsys, place, "--table", "barrier")
    assert (code, {f["check"] for f in found.values() if f["state"] == "wrong"}) == (0, set()), found


def test_a_collation_that_ignores_case_is_told_with_its_repair(mariadb, capsys):
    url = mariadb.create_database(f"cli_{secrets.token_hex(4)}")
    place = Place(Database.MYSQL, url, url)
    place.run(table_sql(Database.MYSQL, "barrier").replace("utf8mb4_bin", "utf8mb4_general_ci"))
    code, found = check(capsys, place, "--table", "barrier")
    assert (code, found["collation"]["state"]) == (0, "warning")
    assert "utf8mb4_general_ci" in found["collation"]["found"]
    fix = "ALTER TABLE barrier CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
    assert found["collation"]["fix"] == fix
    place.run(fix)
    assert check(capsys, place, "--table", "barrier")[1]["collation"]["state"] == "ok"


def test_the_table_of_dtms_go_client_is_right(postgres, capsys):
    """As DTM's barrier.postgres.sql makes it: times without a default."""
    import psycopg

    name = f"cli_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    place = Place(Database.POSTGRES, postgres.url_of(name), postgres.url_of(name))
    place.run(
        "CREATE SCHEMA dtm_barrier; CREATE SEQUENCE dtm_barrier.barrier_seq;"
        "CREATE TABLE dtm_barrier.barrier (id bigint NOT NULL DEFAULT NEXTVAL ('dtm_barrier.barrier_seq'),"
        " trans_type varchar(45) default '', gid varchar(128) default '', branch_id varchar(128) default '',"
        " op varchar(45) default '', barrier_id varchar(45) default '', reason varchar(45) default '',"
        " create_time timestamp(0) with time zone DEFAULT NULL, update_time timestamp(0) with time zone DEFAULT NULL,"
        " PRIMARY KEY (id), CONSTRAINT uniq_barrier unique (gid, branch_id, op, barrier_id))"
    )
    code, found = check(capsys, place)
    assert (code, found["age of rows"]["state"]) == (0, "warning")
    with psycopg.connect(place.address) as connection:
        query = {"trans_type": "saga", "gid": "g", "branch_id": "01", "op": "action"}
        assert Barrier.from_query(query).passes(connection)
        assert not Barrier.from_query(query).passes(connection)
    place.run(found["age of rows"]["fix"])
    assert check(capsys, place)[1]["age of rows"]["state"] == "ok"


@pytest.fixture
def server():
    with LocalServer("memory://") as server:
        yield server


@pytest.fixture
def gids(server):
    """A finished transaction, and one that never ends."""
    with Participant() as bank:
        bank.always("/slow", ONGOING)
        made = {}
        for name in ("finished", "running"):
            gid = server.new_gid()
            path = "/slow" if name == "running" else "/quick"
            steps = [{"action": bank.url(path), "compensate": ""}]
            body = {"gid": gid, "trans_type": "saga", "steps": steps, "payloads": ["{}"]}
            assert server.post("submit", body).status == 200
            made[name] = gid
        server.settle()
        assert server.status(made["finished"]) == "succeed"
        yield made


def fill(place, gids, *extra, table="barrier"):
    """Rows of 40 days for each gid, two branches each; some rows of a transaction may be younger."""
    place.run(table_sql(place.database, table))
    for gid in (*gids.values(), *extra):
        for branch in ("01", "02"):
            place.run(INSERT.format(table=table, gid=gid, branch=branch))
        place.run(OLD[place.database].format(table=table, gid=gid, days=40))


def left(place, table="barrier"):
    return {gid for (gid,) in place.all(f"SELECT gid FROM {table}")}


def clean(capsys, place, *words, table="barrier"):
    code, out = reefknot(capsys, "clean", place.url, "--table", table, "--json", *words)
    return code, json.loads(out)[0]


def test_clean_deletes_only_what_is_over(place, server, gids, capsys):
    fill(place, gids, "unknown-old", "unknown-young", "half-young", "young", "ageless")
    place.run(OLD[place.database].format(table="barrier", gid="unknown-young", days=20))
    place.run(OLD[place.database].format(table="barrier", gid="half-young", days=1) + " AND branch_id = '02'")
    place.run(OLD[place.database].format(table="barrier", gid="young", days=1))
    if place.database is Database.SQLITE:
        place.run("DELETE FROM barrier WHERE gid = 'ageless'")  # its column cannot be without a time
    else:
        place.run("UPDATE barrier SET create_time = NULL WHERE gid = 'ageless' AND branch_id = '01'")
    everything = left(place)
    ageless = 0 if place.database is Database.SQLITE else 1
    kept = {"unfinished": 2, "unknown": 2, "ageless": ageless}

    words = ["--server", server.url, "--batch", "1"]
    assert clean(capsys, place, *words, "--dry-run") == (0, kept | {"transactions": 2, "would delete": 4})
    assert left(place) == everything
    assert clean(capsys, place, *words) == (0, kept | {"transactions": 2, "deleted": 4})
    assert left(place) == everything - {gids["finished"], "unknown-old"}
    assert clean(capsys, place, *words)[1]["deleted"] == 0


def test_clean_stops_when_the_server_does_not_answer(place, server, gids, capsys):
    fill(place, gids)
    everything = left(place)
    assert reefknot(capsys, "clean", place.url, "--table", "barrier", "--server", "http://127.0.0.1:1") == (1, "")
    assert left(place) == everything


def test_clean_by_age_alone_has_to_be_asked_for(place, gids, capsys):
    fill(place, gids)
    everything = left(place)
    assert reefknot(capsys, "clean", place.url, "--table", "barrier") == (2, "")
    assert reefknot(capsys, "clean", place.url, "--table", "barrier", "--no-server", "--older-than", "0.5")[0] == 2
    assert left(place) == everything
    assert clean(capsys, place, "--no-server", "--older-than", "41", "--unknown-older-than", "41")[1]["deleted"] == 0
    assert clean(capsys, place, "--no-server")[1]["deleted"] == 4
    assert left(place) == set()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("oracle://db", "use one of sqlite, postgres"),
        ("sqlite:////nowhere/bank.db", "cannot connect to /nowhere/bank.db with"),
        ("sqlite:///nowhere/bank.db", "cannot connect to nowhere/bank.db with"),
        ("postgres://127.0.0.1:1/x", "cannot connect to 127.0.0.1"),
        ("mysql://u:secret@127.0.0.1:1/x", "cannot connect to 127.0.0.1"),
    ],
)
def test_what_cannot_be_reached_is_told(capsys, url, words):
    assert main(["barrier", "check", url]) == 1
    text = capsys.readouterr().err
    assert words in text
    assert "secret" not in text


@pytest.mark.parametrize("library", ["asyncpg", "asyncmy"])
def test_libraries_of_the_server_will_do(library, postgres, mariadb, capsys, monkeypatch):
    """Where only the extras of the server are installed, its async libraries are used."""
    for other in ("psycopg", "pymysql", "MySQLdb", "mysql.connector"):
        monkeypatch.setitem(sys.modules, other, None)
    url = postgres.url if library == "asyncpg" else mariadb.create_database(f"cli_{secrets.token_hex(4)}")
    assert main(["barrier", "check", url, "--table", "nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().out


@pytest.mark.parametrize("library", ["pymysql", "MySQLdb", "mysql.connector"])
def test_each_library_of_mysql_will_do(library, mariadb, capsys, monkeypatch):
    if library == "MySQLdb":
        mysqldb()
    for other in {"pymysql", "MySQLdb", "mysql.connector", "asyncmy"} - {library}:
        monkeypatch.setitem(sys.modules, other, None)
    url = mariadb.create_database(f"cli_{secrets.token_hex(4)}")
    assert main(["barrier", "check", url, "--table", "nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["sql", "check", "clean"])
def test_help_has_examples(capsys, command):
    assert main(["barrier", command, "--help"]) == 0
    assert f"reefknot barrier {command} " in capsys.readouterr().out
