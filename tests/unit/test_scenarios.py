"""The engine's scenarios: each transcript is what the engine does today."""

from pathlib import Path

import pytest

from reefknot.engine.registry import discover
from reefknot.testing import scenario

FOLDER = Path(__file__).parents[1] / "scenarios"
FILES = sorted(FOLDER.glob("*/*.txt"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FOLDER)) for path in FILES])
def test_scenario(path):
    text = path.read_text(encoding="utf-8")
    assert scenario.replay(text) == text, f"run: python -m reefknot.testing.scenario {path} --rewrite"


def test_every_mode_has_scenarios():
    assert {path.parent.name for path in FILES} == set(discover())


def test_a_scenario_that_differs_is_named_and_can_be_rewritten(tmp_path, monkeypatch, capsys):
    right = (FOLDER / "saga" / "rolls_back.txt").read_text(encoding="utf-8")
    path = tmp_path / "wrong.txt"
    path.write_text(right.replace("http://bank/out-undo\nanswer", "http://elsewhere\nanswer"), encoding="utf-8")
    for words, code, said in (([], 1, "differs"), (["--rewrite"], 0, "rewritten"), ([], 0, "")):
        monkeypatch.setattr("sys.argv", ["scenario", str(path), *words])
        assert scenario.main() == code
        assert said in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == right


def test_an_unknown_answer_is_an_error():
    with pytest.raises(ValueError, match="'maybe' is none of"):
        scenario.answers_in(["action 01: maybe"])
