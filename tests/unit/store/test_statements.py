import sys

import pytest

from reefknot.store.positions import decode_key_position, decode_position, encode_key_position, encode_position
from reefknot.store.statements import load_migrations, load_statements


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "sql_sample"
    (folder / "migrations").mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("sql_sample", None)


def test_statements_by_name(package):
    (package / "statements.sql").write_text(
        "-- A heading\n\n-- name: one\n-- Why it is so.\nSELECT 1;\n\n-- name: two\nSELECT a -- of b\nFROM b;\n"
    )
    assert load_statements("sql_sample") == {"one": "SELECT 1", "two": "SELECT a -- of b\nFROM b"}


@pytest.mark.parametrize("text", ["-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n", "-- name: a\n-- only words\n"])
def test_statements_must_be_there_once(package, text):
    (package / "statements.sql").write_text(text)
    with pytest.raises(ValueError, match="'a' is empty or occurs twice"):
        load_statements("sql_sample")


def test_migrations_in_order(package):
    for name in ("0002_more.sql", "0001_initial.sql", "README.md"):
        (package / "migrations" / name).write_text(f"-- {name}\n")
    assert [(step.version, step.name) for step in load_migrations("sql_sample")] == [(1, "initial"), (2, "more")]


def test_migrations_without_gaps(package):
    (package / "migrations" / "0002_more.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match="not numbered"):
        load_migrations("sql_sample")


def test_positions_round_trip():
    assert decode_position(encode_position(1_700_000_000_000, 42)) == (1_700_000_000_000, 42)
    for key in ("", "a", "=a", "😀"):
        assert encode_key_position(key)
        assert decode_key_position(encode_key_position(key)) == key
