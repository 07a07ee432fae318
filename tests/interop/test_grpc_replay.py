"""gRPC clients that do not run here: their requests, field by field as they put them on the wire.

The bytes are written here from the numbers of the fields, without the server's message classes.
"""

from __future__ import annotations

import secrets

import grpc
import pytest

from reefknot.testing.grpc_participant import FAILURE, GrpcParticipant
from reefknot.testing.server import ServerProcess

pytestmark = pytest.mark.interop

#: What each client's requests have in the options, and how long it waits for each call.
CLIENTS = {
    # Field 4, a list of header names to pass on, has been retired since; nothing is set besides.
    "node": ([(4, "authorization"), (4, "x-trace")], None),
    # No option that a TCC transaction has; a deadline for each call.
    "csharp": ([], 10.0),
}
BODY = b"\x08\x1e"


def number(value):
    """A varint."""
    rest, digit = value >> 7, value & 0x7F
    return bytes([digit | 0x80]) + number(rest) if rest else bytes([digit])


def message(*fields):
    """Fields of texts, bytes and messages: those of wire type 2."""
    out = b""
    for name, value in fields:
        data = value.encode() if isinstance(value, str) else value
        out += number(name << 3 | 2) + number(len(data)) + data
    return out


def entry(name, value):
    """A field of a map."""
    return message((1, name), (2, value))


class Client:
    """Calls the server as one of the clients does: a connection for each call."""

    def __init__(self, address, name):
        self._address = address
        self._options, self._seconds = CLIENTS[name]

    def call(self, method, request=b""):
        with grpc.insecure_channel(self._address) as channel:
            return channel.unary_unary(f"/dtmgimp.Dtm/{method}")(request, timeout=self._seconds)

    def transaction(self, gid):
        return message((1, gid), (2, "tcc"), (3, message(*self._options)))

    def try_branch(self, business, gid, branch_id, side):
        """Register a branch and call its try, which the client does itself."""
        addresses = [
            (5, entry(op, business.url(f"/busi.Busi/Trans{side}{op.title()}"))) for op in ("confirm", "cancel")
        ]
        self.call("RegisterBranch", message((1, gid), (2, "tcc"), (3, branch_id), *addresses, (6, BODY)))
        names = {"gid": gid, "trans_type": "tcc", "branch_id": branch_id, "op": "try", "dtm": self._address}
        metadata = [(f"dtm-{name}", value) for name, value in names.items()]
        address, _, method = business.url(f"/busi.Busi/Trans{side}Try").partition("/")
        with grpc.insecure_channel(address) as channel:
            channel.unary_unary(f"/{method}")(BODY, metadata=metadata, timeout=self._seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    with ServerProcess(f"sqlite:///{folder}/store.db", log=folder / "log", grpc=True) as server:
        yield server
        assert "request failed" not in server.log_text()


@pytest.fixture
def business():
    with GrpcParticipant() as business:
        yield business


def second_phase(business, gid):
    """What the server called, and with what."""
    made = [call for call in business.calls if call.gid == gid and call.op != "try"]
    assert {call.body for call in made} == {BODY}
    return sorted((call.path, call.branch_id, call.op) for call in made)


@pytest.mark.parametrize("name", CLIENTS)
class TestTcc:
    def test_succeeds(self, server, business, name):
        client = Client(server.grpc_address, name)
        reply = client.call("NewGid")
        assert reply[:2] == b"\x0a\x16"
        gid = reply[2:].decode()
        assert client.call("Prepare", client.transaction(gid)) == b""
        client.try_branch(business, gid, "01", "Out")
        client.try_branch(business, gid, "02", "In")
        assert client.call("Submit", client.transaction(gid)) == b""
        assert server.wait_for(gid, "succeed") == "succeed"
        assert second_phase(business, gid) == [
            ("/busi.Busi/TransInConfirm", "02", "confirm"),
            ("/busi.Busi/TransOutConfirm", "01", "confirm"),
        ]

    def test_rolls_back(self, server, business, name):
        business.always("/busi.Busi/TransInTry", FAILURE)
        client = Client(server.grpc_address, name)
        gid = f"replay-{secrets.token_hex(6)}"
        client.call("Prepare", client.transaction(gid))
        client.try_branch(business, gid, "01", "Out")
        with pytest.raises(grpc.RpcError):
            client.try_branch(business, gid, "02", "In")
        assert client.call("Abort", client.transaction(gid)) == b""
        assert server.wait_for(gid, "failed") == "failed"
        assert second_phase(business, gid) == [
            ("/busi.Busi/TransInCancel", "02", "cancel"),
            ("/busi.Busi/TransOutCancel", "01", "cancel"),
        ]
