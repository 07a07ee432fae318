"""The gRPC port: health, reflection, limits, failpoints, metrics, and an orderly end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from api.statuses import refused
from reefknot.testing.grpc_client import GrpcClient, methods
from reefknot.testing.participant import Participant, Say
from reefknot.testing.server import LocalServer, ServerProcess, free_port

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SERVICES = ["", "dtmgimp.Dtm", "reefknot.v1.Transactions"]
SLOW = {"Gid": "slow", "TransType": "saga", "BinPayloads": [b"1"], "TransOptions": {"WaitResult": True}}


def slow_saga(bank):
    return {**SLOW, "Steps": f'[{{"action":"{bank.url("/slow")}","compensate":""}}]'}


def reefknot(*words, **environment):
    """Run the program until it ends; its exit code and what it said."""
    command = [sys.executable, "-m", "reefknot", *words]
    settings = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=settings, check=False)
    return done.returncode, done.stderr


def in_background(call, *arguments):
    """Make a call in a thread; the thread, and a list that gets its answer or error."""
    answers = []

    def run():
        try:
            answers.append(call(*arguments))
        except grpc.RpcError as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, answers


def until(true, seconds=15):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not true in time"
        time.sleep(0.02)


# --- health and reflection ------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_serving(client, service):
    assert HealthStub(client.channel).Check(HealthCheckRequest(service=service)).status == SERVING


def test_the_health_of_an_unknown_service_is_not_found(client):
    assert refused(HealthStub(client.channel).Check, HealthCheckRequest(service="dtmgimp.Nothing"))[0] == "NOT_FOUND"


def test_reflection_lists_the_services_and_describes_every_method(client):
    database = ProtoReflectionDescriptorDatabase(client.channel)
    names = {"dtmgimp.Dtm", "reefknot.v1.Transactions", "grpc.health.v1.Health"}
    assert set(database.get_services()) == {*names, "grpc.reflection.v1alpha.ServerReflection"}
    pool = DescriptorPool(database)
    for service, method in methods():
        assert pool.FindServiceByName(service).FindMethodByName(method).input_type.fields is not None
    request = pool.FindMessageTypeByName("dtmgimp.DtmRequest")
    assert request.fields_by_name["BinPayloads"].number == 5


# --- the end --------------------------------------------------------------------------------------


def test_health_turns_not_serving_while_the_server_drains(tmp_path):
    with (
        Participant() as bank,
        ServerProcess(f"sqlite:///{tmp_path}/store.db", grpc=True, log=tmp_path / "log") as server,
        GrpcClient(server.grpc_address) as client,
    ):
        bank.always("/slow", Say(seconds=2))
        health = HealthStub(client.channel)
        states, watching = [], health.Watch(HealthCheckRequest(service="dtmgimp.Dtm"))
        seen, _ = in_background(lambda: states.extend(state.status for state in watching))
        until(lambda: states == [SERVING])
        running, answers = in_background(client.dtm, "Submit", slow_saga(bank))
        until(lambda: bank.calls)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: len(states) == 2)
        # The port is open for those who ask how we are, and for what is running; nothing new is taken.
        for service in SERVICES:
            assert health.Check(HealthCheckRequest(service=service), timeout=5).status == NOT_SERVING
        code, text = refused(client.dtm, "NewGid")
        assert (code, "the server is stopping" in text) == ("UNAVAILABLE", True)
        assert server.alive
        running.join(20)
        assert [type(one).__name__ for one in answers] == ["Empty"], answers
        assert server.wait() == 0
        seen.join(20)
        assert states == [SERVING, NOT_SERVING]
        assert '"stopped"' in server.log_text()
        assert "Traceback" not in server.log_text()


def test_a_stop_does_not_wait_for_those_who_only_look_on(tmp_path):
    with (
        ServerProcess(f"sqlite:///{tmp_path}/store.db", grpc=True, log=tmp_path / "log") as server,
        GrpcClient(server.grpc_address) as client,
    ):
        client.dtm("Prepare", {"Gid": "open", "TransType": "tcc"})
        seen: list[str] = []
        watching, ends = in_background(lambda: seen.extend(one.status for one in client.watch("open")))
        waiting, waited = in_background(client.transactions, "Wait", {"gid": "open", "seconds": 30})
        over_http, heard = in_background(lambda: server.get("wait", gid="open", seconds=30))
        until(lambda: seen == ["prepared"])
        time.sleep(0.5)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8
        for thread in (watching, waiting, over_http):
            thread.join(10)
        assert [one.code().name for one in ends] == ["UNAVAILABLE"]
        assert [one.status for one in waited] == ["prepared"]
        assert [(one.status, one.json()["transaction"]["status"]) for one in heard] == [(200, "prepared")]


def test_a_call_that_takes_too_long_is_cut_off_and_goes_on_at_the_next_start(tmp_path):
    quick = {"REEFKNOT_SHUTDOWN_TIMEOUT": "1", "REEFKNOT_REQUEST_TIMEOUT": "30", "REEFKNOT_LEASE_SECONDS": "2"}
    log = tmp_path / "log"
    with (
        Participant() as bank,
        ServerProcess(f"sqlite:///{tmp_path}/store.db", grpc=True, environment=quick, log=log) as server,
        GrpcClient(server.grpc_address) as client,
    ):
        bank.script("/slow", [Say(seconds=20)])
        running, answers = in_background(client.dtm, "Submit", slow_saga(bank))
        until(lambda: bank.calls)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        running.join(10)
        # Not "refused": nobody knows.
        assert answers[0].code().name in ("UNAVAILABLE", "CANCELLED")
        server.start()
        assert server.wait_for("slow", "succeed", seconds=60) == "succeed"
        assert bank.called() == ["/slow", "/slow"]


def test_a_client_that_gives_up_does_not_interrupt_its_submit(server, client, bank):
    server.failpoints.__init__({"submit.after_insert": "sleep:1"})
    assert refused(client.dtm, "Submit", slow_saga(bank), seconds=0.3)[0] == "DEADLINE_EXCEEDED"
    # Sooner than the lease ends: nobody had to take it over.
    assert server.wait_for("slow", "succeed", seconds=5) == "succeed"
    assert bank.called() == ["/slow"]


# --- limits ---------------------------------------------------------------------------------------


def test_a_message_over_the_body_limit_is_refused():
    with LocalServer(grpc=True, body_limit=20_000) as server, GrpcClient(server.grpc_address) as client:
        large = {"Gid": "x", "TransType": "saga", "Steps": '[{"action":""}]', "BinPayloads": [b"x" * 30_000]}
        assert refused(client.dtm, "Submit", large)[0] == "RESOURCE_EXHAUSTED"
        client.dtm("Submit", {**large, "BinPayloads": [b"x" * 15_000]})
        assert [one["gid"] for one in server.get("all").json()["transactions"]] == ["x"]


def test_calls_over_the_streams_of_a_connection_wait_for_their_turn(bank):
    with LocalServer(grpc=True, grpc_max_streams=2) as server, GrpcClient(server.grpc_address) as client:
        server.post("prepare", {"gid": "t", "trans_type": "tcc"})
        watches = [client.watch("t") for _ in range(2)]
        for watch in watches:
            next(watch)
        assert refused(client.dtm, "NewGid", seconds=0.5)[0] == "DEADLINE_EXCEEDED"
        with GrpcClient(server.grpc_address, options=(("grpc.use_local_subchannel_pool", 1),)) as other:
            assert other.dtm("NewGid").Gid
        watches[0].cancel()
        assert client.dtm("NewGid").Gid


# --- failpoints and metrics -----------------------------------------------------------------------


def test_failpoints(server, client):
    server.failpoints.__init__({"api.before_ack": "drop@1"})
    code, _ = refused(client.dtm, "Prepare", {"Gid": "x", "TransType": "tcc"})
    # What a broken connection looks like: the client cannot know that it was stored.
    assert (code, server.status("x")) == ("UNAVAILABLE", "prepared")
    server.failpoints.__init__({"api.recv": "raise@1"})
    assert refused(client.dtm, "Prepare", {"Gid": "y", "TransType": "tcc"})[0] == "INTERNAL"
    assert server.status("y") == ""
    client.dtm("Prepare", {"Gid": "y", "TransType": "tcc"})


def test_calls_are_counted_like_requests(server, client):
    client.dtm("NewGid")
    refused(client.dtm, "Submit", {"Gid": "x"})
    client.dtm("Prepare", {"Gid": "t", "TransType": "tcc"})
    client.transactions("ForceStop", {"gid": "t"})
    assert [one.status for one in client.watch("t")] == ["failed"]
    text = server.send("GET", "/api/metrics").body.decode()
    for api, status in [("newgid", "ok"), ("submit", "fail"), ("prepare", "ok"), ("forcestop", "ok"), ("watch", "ok")]:
        assert f'dtm_server_process_total{{api="{api}",status="{status}",type="grpc"}} 1.0' in text
    assert 'dtm_server_response_duration_count{api="submit",type="grpc"} 1.0' in text


# --- starting -------------------------------------------------------------------------------------


def test_a_port_in_use_is_said(postgres):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        workers = ["--store", f"{postgres.url}?schema=grpc_taken", "--workers", "2"]
        for words in (["--store", "memory://"], workers):
            code, said = reefknot("serve", "--http-port", "0", "--grpc-port", port, *words)
            assert code == 2
            assert f"GrpcHost, GrpcPort: cannot listen on 127.0.0.1:{port}" in said
            assert "choose another port" in said
            assert "Traceback" not in said


def test_without_the_package_the_server_says_what_to_install_or_to_set(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['grpc'] = None\n")
    path = {"PYTHONPATH": str(tmp_path)}
    code, said = reefknot("serve", "--store", "memory://", "--http-port", "0", **path)
    assert code == 2
    assert "GrpcPort: gRPC needs a package that is not installed" in said
    assert "pip install 'reefknot[grpc]', or set GrpcPort to 0" in said
    assert "Traceback" not in said
    with ServerProcess("memory://", environment=path, log=tmp_path / "log") as server:
        assert server.new_gid()


def test_a_server_without_grpc_does_not_import_it():
    code = (
        "import sys; from reefknot.testing.server import LocalServer\n"
        "with LocalServer() as server: server.new_gid()\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('grpc', 'google')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_log_says_where_grpc_is(tmp_path):
    with ServerProcess("memory://", grpc=True, log=tmp_path / "log") as server:
        assert f'"grpc": "{server.grpc_address}"' in server.log_text()


def test_another_address(tmp_path):
    port = free_port()
    settings = {"REEFKNOT_GRPC_HOST": "127.0.0.2"}
    command = [sys.executable, "-m", "reefknot", "serve", "--store", "memory://", "--http-port", "0"]
    environment = {**os.environ, **settings}
    with subprocess.Popen([*command, "--grpc-port", str(port)], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            with GrpcClient(f"127.0.0.2:{port}") as client:
                grpc.channel_ready_future(client.channel).result(20)
                assert client.dtm("NewGid").Gid
            with GrpcClient(f"127.0.0.1:{port}") as client:
                assert refused(client.dtm, "NewGid", seconds=5)[0] == "UNAVAILABLE"
        finally:
            process.terminate()


def test_workers_share_the_port(postgres, bank, tmp_path):
    """Every worker answers; the kernel spreads connections over them."""
    url = f"{postgres.url}?schema=grpc_workers"
    bank.always("/slow", Say(seconds=3))
    with ServerProcess(url, environment={"REEFKNOT_WORKERS": "2"}, log=tmp_path / "log", grpc=True) as server:
        until(lambda: server.log_text().count('"serving"') == 2)
        owners = set()
        for number in range(16):
            # A pool of its own: a new connection each time.
            with GrpcClient(server.grpc_address, options=(("grpc.use_local_subchannel_pool", 1),)) as client:
                gid = f"s{number}"
                client.dtm("Submit", {**slow_saga(bank), "Gid": gid, "TransOptions": {}})
                owners.add(client.transactions("Get", {"gid": gid}).owner)
        assert len(owners - {""}) == 2
        assert server.stop() == 0


# --- crashes --------------------------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.parametrize(
    ("failpoint", "stored"),
    [("api.recv", False), ("submit.after_insert", True), ("api.before_ack", True), ("api.after_ack", True)],
)
def test_what_was_stored_before_a_crash_goes_on_after_it(tmp_path, bank, failpoint, stored):
    store, log = f"sqlite:///{tmp_path}/store.db", tmp_path / "log"
    settings = {"REEFKNOT_LEASE_SECONDS": "1"}
    # The ping of the start is the first hit of those that HTTP has too.
    action = "kill@2" if failpoint.startswith("api.") else "kill"
    server = ServerProcess(store, failpoints={failpoint: action}, environment=settings, log=log, grpc=True)
    with server, GrpcClient(server.grpc_address) as client:
        acknowledged = True
        try:
            client.dtm("Submit", {**slow_saga(bank), "TransOptions": {}})
        except grpc.RpcError:
            acknowledged = False
        assert server.wait() == -signal.SIGKILL
        server.failpoints = {}
        server.start()
        assert stored or not acknowledged
        if stored:
            assert server.wait_for("slow", "succeed") == "succeed"
        else:
            assert server.status("slow") == ""
