"""The two programs on the page for users of dtmcli work as they stand there, and do the same."""

import re
from pathlib import Path

import pytest

from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-dtmcli.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=["old", "new"])
def test_the_program_transfers(program):
    with LocalServer() as server, Participant() as bank:
        program = program.replace("http://127.0.0.1:36789", server.url.removesuffix("/api/dtmsvr"))
        exec(compile(program.replace("http://bank", bank.url("")), str(PAGE), "exec"), {"__name__": "program"})
        server.settle()
        assert bank.called()[:2] == ["/out", "/in"]
        # The server confirms all at once.
        assert sorted(bank.called()[2:]) == ["/in/confirm", "/out/confirm"]
        assert {call.body.replace(b" ", b"") for call in bank.calls} == {b'{"amount":30}'}


def test_both_programs_are_there():
    assert len(PROGRAMS) == 2
