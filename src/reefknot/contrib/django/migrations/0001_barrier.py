"""The barrier's table, as DTM's clients in other languages expect it too."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations

from reefknot.barrier.drivers import driver_of
from reefknot.barrier.statements import table_sql
from reefknot.contrib.django.branches import barrier_table


def create(_: Any, schema_editor: Any) -> None:
    """Create the table in the database that is migrated, unless it is there."""
    connection = schema_editor.connection
    script = table_sql(driver_of(connection).database, barrier_table())
    for statement in connection.ops.prepare_sql_script(script):
        schema_editor.execute(statement)


class Migration(migrations.Migration):  # type: ignore[misc] # Django has no types
    """Going back leaves the table: without its rows, calls that are repeated would be done twice."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    # Not atomic by itself: MySQL has no transactions around CREATE TABLE. Elsewhere the migration is, as a whole.
    operations: ClassVar[list[Any]] = [migrations.RunPython(create, migrations.RunPython.noop, atomic=False)]
