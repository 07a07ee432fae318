"""TLS of the gRPC port: who is believed, who is let in, and certificates that change while it runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import grpc
import pytest
import trustme

from api.statuses import refused
from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.server import LocalServer, ServerProcess


class Files:
    """A certificate of an authority, and its key, in files that are replaced one after the other."""

    def __init__(self, directory, authority=None):
        self.authority = authority or trustme.CA()
        self.cert, self.key, self.ca = directory / "server.pem", directory / "server.key", directory / "clients.pem"
        self.issue()

    def issue(self, authority=None):
        leaf = (authority or self.authority).issue_cert("127.0.0.1", "localhost")
        replace(self.key, leaf.private_key_pem.bytes())
        replace(self.cert, b"".join(pem.bytes() for pem in leaf.cert_chain_pems))

    def settings(self, **more):
        return {"grpc_cert": str(self.cert), "grpc_key": str(self.key), **more}


def replace(path, content):
    """As an operator's program does it: a new file under the old name."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)


def trusting(authority, leaf=None):
    """A client's credentials: whom it believes, and who it says it is."""
    believed = authority.cert_pem.bytes()
    if leaf is None:
        return grpc.ssl_channel_credentials(believed)
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    return grpc.ssl_channel_credentials(believed, leaf.private_key_pem.bytes(), chain)


def connect(server, credentials=None):
    """A client with a connection of its own."""
    return GrpcClient(server.grpc_address, credentials, (("grpc.use_local_subchannel_pool", 1),))


def unreachable(server, credentials=None):
    with connect(server, credentials) as client:
        return refused(client.dtm, "NewGid", seconds=5)[0] == "UNAVAILABLE"


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_a_client_that_believes_the_authority_is_answered(files):
    with LocalServer(grpc=True, **files.settings()) as server:
        with connect(server, trusting(files.authority)) as client:
            assert client.dtm("NewGid").Gid
        assert unreachable(server, trusting(trustme.CA()))
        assert unreachable(server)


def test_a_client_must_have_a_certificate_of_the_right_authority(files):
    clients = trustme.CA()
    files.ca.write_bytes(clients.cert_pem.bytes())
    with LocalServer(grpc=True, **files.settings(grpc_client_ca=str(files.ca))) as server:
        with connect(server, trusting(files.authority, clients.issue_cert("client@example.org"))) as client:
            assert client.dtm("NewGid").Gid
        assert unreachable(server, trusting(files.authority))
        assert unreachable(server, trusting(files.authority, trustme.CA().issue_cert("client@example.org")))


def test_certificates_change_without_a_restart(tmp_path, files):
    clients = trustme.CA()
    files.ca.write_bytes(clients.cert_pem.bytes())
    settings = {"REEFKNOT_GRPC_CERT": files.cert, "REEFKNOT_GRPC_KEY": files.key, "REEFKNOT_GRPC_CLIENT_CA": files.ca}
    environment = {name: str(path) for name, path in settings.items()}
    log = tmp_path / "log"
    with ServerProcess(f"sqlite:///{tmp_path}/s.db", environment=environment, log=log, grpc=True) as server:
        before = connect(server, trusting(files.authority, clients.issue_cert("c@example.org")))
        assert before.dtm("NewGid").Gid
        other, new_clients = trustme.CA(), trustme.CA()
        # Half of a change: the key of the new certificate with the old one.
        new = other.issue_cert("127.0.0.1")
        replace(files.key, new.private_key_pem.bytes())
        with connect(server, trusting(files.authority, clients.issue_cert("c@example.org"))) as client:
            assert client.dtm("NewGid").Gid
        assert "certificates changed and cannot be used yet" in server.log_text()
        replace(files.cert, new.cert_chain_pems[0].bytes())
        with connect(server, trusting(other, clients.issue_cert("c@example.org"))) as client:
            assert client.dtm("NewGid").Gid
        assert unreachable(server, trusting(files.authority, clients.issue_cert("c@example.org")))
        # The authority of the clients changes too; who was let in stays.
        replace(files.ca, new_clients.cert_pem.bytes())
        with connect(server, trusting(other, new_clients.issue_cert("c@example.org"))) as client:
            assert client.dtm("NewGid").Gid
        assert unreachable(server, trusting(other, clients.issue_cert("c@example.org")))
        assert before.dtm("NewGid").Gid
        before.channel.close()
        assert "certificates read again" in server.log_text()


@pytest.mark.parametrize(
    "wrong", ["no key", "no certificate", "missing", "another key", "no pem", "authority", "only authority"]
)
def test_files_that_cannot_be_used_are_named(tmp_path, files, wrong):
    text = tmp_path / "text"
    text.write_text("no certificate\n")
    other = tmp_path / "other.key"
    other.write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
    cert, key, authority, words = {
        "no key": (files.cert, "", "", "GrpcKey: is not set"),
        "no certificate": ("", files.key, "", "GrpcCert: is not set"),
        "missing": (tmp_path / "none.pem", files.key, "", f"cannot read {tmp_path / 'none.pem'}: No such file"),
        "another key": (files.cert, other, "", "cannot be used together"),
        "no pem": (text, files.key, "", "cannot be used together"),
        "authority": (files.cert, files.key, text, f"GrpcClientCa: {text} cannot be used"),
        "only authority": ("", "", files.cert, "GrpcCert: is not set"),
    }[wrong]
    settings = {"REEFKNOT_GRPC_CERT": cert, "REEFKNOT_GRPC_KEY": key, "REEFKNOT_GRPC_CLIENT_CA": authority}
    environment = {**os.environ, **{name: str(path) for name, path in settings.items()}}
    command = [sys.executable, "-m", "reefknot", "serve", "--store", "memory://", "--http-port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_handshake_that_never_comes_holds_nothing_up(files):
    with LocalServer(grpc=True, **files.settings()) as server:
        host, port = server.grpc_address.split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(b"\x16\x03\x01")
            began = time.monotonic()
            with connect(server, trusting(files.authority)) as client:
                assert client.dtm("NewGid").Gid
            assert time.monotonic() - began < 5
