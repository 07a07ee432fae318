"""The migration of the Django app makes the table that every client of DTM uses, on each database."""

import contextlib
import json
import secrets
import subprocess
import sys

import pytest

from reefknot.barrier.inspection import inspect_table
from reefknot.barrier.opening import open_connection
from sdk.barrier_connections import parts

PROGRAM = """
import json, sys
import django, pymysql
from django.conf import settings
from django.core.management import call_command

pymysql.install_as_MySQLdb()
database, options = json.loads(sys.argv[1])
settings.configure(INSTALLED_APPS=["reefknot.contrib.django"], DATABASES={"default": database}, USE_TZ=True, **options)
django.setup()
call_command("migrate", verbosity=0)
call_command("migrate", "reefknot", "zero", verbosity=0)  # leaves the table
call_command("migrate", verbosity=0)
call_command("makemigrations", "--check", verbosity=0)
"""


@pytest.mark.parametrize(("server", "engine", "table"), [("postgres", "postgresql", ""), ("mariadb", "mysql", "own")])
def test_the_migration_makes_the_table(request, server, engine, table):
    url = request.getfixturevalue(server).create_database(f"django_{secrets.token_hex(4)}")
    place = {name.upper(): value for name, value in parts(url).items() if value}
    database = {"ENGINE": f"django.db.backends.{engine}", "NAME": place.pop("DATABASE"), **place}
    options = {"REEFKNOT_BARRIER_TABLE": table} if table else {}
    command = [sys.executable, "-c", PROGRAM, json.dumps([database, options])]
    subprocess.run(command, check=True, timeout=120)
    with contextlib.closing(open_connection(url)) as opened:
        found = inspect_table(opened, table)
    assert len(found) >= 4
    assert [finding for finding in found if finding.state != "ok"] == []
