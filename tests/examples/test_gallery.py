"""The gallery: every example is short, documented, tested, listed and can be copied."""

import json

import pytest

from reefknot.cli import main
from reefknot.demo.gallery import Example, ExampleError, _main, examples

FOUND = examples()
MOST_LINES = 150


def test_there_are_examples():
    assert len(FOUND) > 0


@pytest.mark.parametrize("name", FOUND)
def test_an_example_is_short_documented_and_tested(name):
    folder = FOUND[name].folder
    assert len(FOUND[name].title) > 20
    assert FOUND[name].missing == []
    readme = (folder / "README.md").read_text("utf-8")
    assert f"reefknot demo {name}" in readme
    assert list(folder.glob("test_*.py")), "it has no test of its own"
    programs = [path for path in folder.rglob("*.*") if path.suffix in (".py", ".go") and written(path.name)]
    assert sum(len(path.read_text("utf-8").splitlines()) for path in programs) <= MOST_LINES


def written(name):
    """Whether a file is a part of the program that somebody wrote: no test, and not made from a .proto file."""
    return "test_" not in name and "_pb2" not in name


@pytest.mark.parametrize(
    "program",
    [
        "import time; time.sleep(3600)",
        "import subprocess; subprocess.run(['sleep', '3600'])",
        "import os, time; os.close(1); os.close(2); time.sleep(3600)",
        "import time\nwhile True: print(1); time.sleep(0.01)",
    ],
)
def test_an_example_that_does_not_end_is_ended(program, tmp_path):
    (tmp_path / "main.py").write_text(program)
    with pytest.raises(ExampleError, match="silent did not end within 2 s"):
        _main(Example("silent", tmp_path, "It says nothing"), {}, lambda _: None, 2)


def test_the_list_names_every_example(capsys):
    assert main(["demo", "--list", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(FOUND)


def test_a_copy_is_the_whole_example(tmp_path, capsys):
    name = next(iter(FOUND))
    assert main(["demo", name, "--write", str(tmp_path / "mine")]) == 0
    copied = {path.name for path in (tmp_path / "mine").iterdir()}
    assert {"main.py", "README.md"} <= copied
    assert main(["demo", name, "--write", str(tmp_path / "mine")]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_the_program_can_be_shown(capsys):
    name = next(iter(FOUND))
    assert main(["demo", name, "--show"]) == 0
    assert capsys.readouterr().out == (FOUND[name].folder / "main.py").read_text("utf-8")


def test_a_wrong_name_gets_a_suggestion(capsys):
    name = next(iter(FOUND))
    assert main(["demo", f"{name}x"]) == 2
    assert f"did you mean {name}?" in capsys.readouterr().err


def test_options_of_the_other_demo_are_refused(capsys):
    assert main(["demo", next(iter(FOUND)), "--slow"]) == 2
    assert "belong to the transfers" in capsys.readouterr().err


def test_an_example_in_go_says_that_go_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["demo", "go-and-python"]) == 1
    said = capsys.readouterr().err
    assert "needs Go, and there is no go on the PATH" in said
    assert "golang-go (1.19 or newer)" in said
