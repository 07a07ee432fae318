"""The example of docs/grpc.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from reefknot.testing.grpc_participant import GrpcParticipant

PAGE = Path(__file__).parents[2] / "docs" / "grpc.md"


def test_the_example_runs(server, capsys):
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with GrpcParticipant() as bank:
        code = example.replace("localhost:36790", server.grpc_address).replace(
            "localhost:58081", f"127.0.0.1:{bank.port}"
        )
        exec(compile(code, str(PAGE), "exec"), {})
        assert capsys.readouterr().out == "succeed\n"
        assert [(call.path, call.body) for call in bank.calls] == [("/busi.Busi/TransOut", b"any bytes")]
