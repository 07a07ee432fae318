"""deploy/nginx/nginx.conf in a real nginx, in front of three nodes."""

import http.client
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from chaos.conftest import missing
from reefknot.testing.participant import Participant
from reefknot.testing.server import PATIENCE_SECONDS, Client, free_port

pytestmark = [pytest.mark.crash, pytest.mark.slow]

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "nginx.conf"


def find_nginx():
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture
def proxy(start_nodes, tmp_path):
    """The configuration with the addresses and folders of this test, and nothing else changed."""
    if (program := find_nginx()) is None:
        missing("nginx")
    nodes = start_nodes(3)
    text = CONFIGURATION.read_text()
    for number, node in enumerate(nodes):
        text, count = re.subn(rf"10\.0\.0\.1{number + 1}:36789", f"127.0.0.1:{node._port}", text)
        assert count == 1
    port = free_port()
    for old, new in (
        ("listen 36789", f"listen 127.0.0.1:{port}"),
        ("/run/nginx.pid", f"{tmp_path}/pid"),
        ("/var/log/nginx", str(tmp_path)),
    ):
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "nginx.conf"
    file.write_text(text)
    command = [program, "-p", str(tmp_path), "-c", str(file), "-e", str(tmp_path / "error.log")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
    client = Client("127.0.0.1", port)
    client.nodes = nodes
    until = time.monotonic() + PATIENCE_SECONDS
    while not answers(client):
        assert process.poll() is None
        assert time.monotonic() < until, "nginx listens"
        time.sleep(0.05)
    yield client
    process.terminate()
    process.wait(PATIENCE_SECONDS)


def answers(client):
    try:
        return client.send("GET", "/api/ping").status == 200
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_clients_do_not_notice_that_a_node_dies(store, proxy):
    with Participant() as participant:
        step = {"action": participant.url("/one"), "compensate": participant.url("/undo")}
        fields = {"trans_type": "saga", "steps": [step, step], "payloads": ["{}", "{}"], "wait_result": True}
        for number in range(30):
            if number in (10, 20):
                proxy.nodes[number // 10].kill()
            answer = proxy.post("submit", {"gid": f"proxied-{number}", **fields})
            assert answer.status == 200, answer.body
            assert proxy.status(f"proxied-{number}") == "succeed"
        assert len(participant.calls) == 60
    assert proxy.send("GET", "/api/metrics").status == 404
