"""The generated messages work with every protobuf that is allowed, and our server with the oldest grpcio.

Each pair runs in an environment of its own, made by uv from the package index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reefknot.testing.server import LocalServer

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")

ROUND_TRIP = """
import importlib.metadata, sys
from reefknot.wire.proto import dtmgimp_pb2 as dtm, transactions_pb2 as ours, workflow_pb2 as workflow
request = dtm.DtmRequest(Gid="g", BinPayloads=[bytes(range(256))], ReqExtra={"status": "succeed"})
request.TransOptions.BranchHeaders["a"] = "b"
request.TransOptions.TimeoutToFail = 2**40
assert dtm.DtmRequest.FromString(request.SerializeToString()) == request
sys.stdout.write(request.SerializeToString(deterministic=True).hex() + " ")
shown = ours.Transaction(gid="g", ops=[ours.BranchOp(payload=b"x")], options=ours.Options(headers={"a": "b"}))
assert ours.Transaction.FromString(shown.SerializeToString()) == shown
assert workflow.WorkflowData.FromString(workflow.WorkflowData(Data=b"x").SerializeToString()).Data == b"x"
from reefknot.wire.grpc import transaction_request
assert transaction_request(request).payloads == (bytes(range(256)),)
print(importlib.metadata.version("protobuf"))
"""

CALL = """
import sys, grpc
from google.protobuf.empty_pb2 import Empty
from reefknot.wire.proto.dtmgimp_pb2 import DtmGidReply, DtmRequest
with grpc.insecure_channel(sys.argv[1]) as channel:
    new = channel.unary_unary("/dtmgimp.Dtm/NewGid", Empty.SerializeToString, DtmGidReply.FromString)
    gid = new(Empty(), timeout=20).Gid
    submit = channel.unary_unary("/dtmgimp.Dtm/Submit", DtmRequest.SerializeToString, Empty.FromString)
    submit(DtmRequest(Gid=gid, TransType="saga"), timeout=20)
print(grpc.__version__, gid)
"""

SERVE = """
import grpc
from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.server import LocalServer
with LocalServer(grpc=True) as server, GrpcClient(server.grpc_address) as client:
    client.dtm("Submit", {"Gid": "g", "TransType": "saga", "TransOptions": {"WaitResult": True}})
    assert [one.status for one in client.watch("g")] == ["succeed"]
print(grpc.__version__, "served")
"""


def run(code, *arguments, packages):
    """Run a program with exactly these packages beside ours; what it printed."""
    wanted = [word for package in packages for word in ("--with", package)]
    command = [str(UV), "run", "--quiet", "--isolated", "--no-project", "--python", sys.executable, *wanted]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        [*command, "python", "-W", "error", "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


def declared(package):
    """The oldest version of a package that we declare."""
    [version] = set(re.findall(rf'"{package}>=([0-9.]+)', (ROOT / "pyproject.toml").read_text()))
    return version


@pytest.mark.parametrize("protobuf", ["5.29", "6.33", "7"])
def test_messages_work_with_every_protobuf(protobuf):
    from reefknot.wire.proto.dtmgimp_pb2 import DtmRequest

    written, version = run(ROUND_TRIP, packages=[f"protobuf=={protobuf}.*", "msgspec"])
    assert version.startswith(protobuf)
    read = DtmRequest.FromString(bytes.fromhex(written))
    assert (read.Gid, read.BinPayloads[0], read.TransOptions.TimeoutToFail) == ("g", bytes(range(256)), 2**40)


def test_an_old_client_calls_our_server():
    grpcio, protobuf = declared("grpcio"), declared("protobuf")
    with LocalServer(grpc=True) as server:
        packages = [f"grpcio=={grpcio}.*", f"protobuf=={protobuf}.*"]
        version, gid = run(CALL, server.grpc_address, packages=packages)
        assert version.startswith(f"{grpcio}.")
        assert server.wait_for(gid, "succeed") == "succeed"


def test_our_server_runs_on_the_oldest_versions():
    grpcio, protobuf = declared("grpcio"), declared("protobuf")
    packages = [f"{name}=={grpcio}.*" for name in ("grpcio", "grpcio-health-checking", "grpcio-reflection")]
    packages += [f"protobuf=={protobuf}.*", "msgspec", "aiohttp", "httptools", "prometheus-client", "pyyaml"]
    packages += ["structlog", "uvicorn", "uvloop", "apsw", "click", "rich", "starlette", "urllib3"]
    version, word = run(SERVE, packages=packages)
    assert (version.startswith(f"{grpcio}."), word) == (True, "served")
