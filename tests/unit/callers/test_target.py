"""Branch URLs in parts."""

from __future__ import annotations

import pytest

from reefknot.callers.base import BranchCall
from reefknot.callers.target import Target, Targets, branch_query, is_jsonrpc, read_target


@pytest.mark.parametrize(
    ("url", "address", "host_header", "path"),
    [
        ("http://bank", ("bank", 80), "bank", "/"),
        ("http://bank/a/b", ("bank", 80), "bank", "/a/b"),
        ("http://bank:80/", ("bank", 80), "bank", "/"),
        ("http://bank:/", ("bank", 80), "bank", "/"),
        ("http://bank:8080/", ("bank", 8080), "bank:8080", "/"),
        ("https://bank/", ("bank", 443), "bank", "/"),
        ("https://bank:80/", ("bank", 80), "bank:80", "/"),
        ("HTTP://Bank/", ("Bank", 80), "Bank", "/"),
        ("http://[::1]/", ("::1", 80), "[::1]", "/"),
        ("http://[fe80::1]:8080/x", ("fe80::1", 8080), "[fe80::1]:8080", "/x"),
        ("http://bücher.example/", ("xn--bcher-kva.example", 80), "xn--bcher-kva.example", "/"),
        ("http://bank?x=1", ("bank", 80), "bank", "/?x=1"),
        ("http://bank/a?x=1&x=2#part", ("bank", 80), "bank", "/a?x=1&x=2"),
        ("http://bank/a%2Fb/%e4?q=%41+b%20c", ("bank", 80), "bank", "/a%2Fb/%e4?q=%41+b%20c"),
        ("http://bank/ä b?q=ü x", ("bank", 80), "bank", "/%C3%A4%20b?q=%C3%BC%20x"),
        ('http://bank/{id}?q={"a":1}', ("bank", 80), "bank", '/%7Bid%7D?q={"a":1}'),
    ],
)
def test_url_is_read(url, address, host_header, path):
    target = read_target(url)

    assert target.problem == ""
    assert (target.address, target.host_header, target.path) == (address, host_header, path)
    assert target.secure is url.lower().startswith("https")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("bank/a", "not a URL"),
        ("bank:8080/pkg.Svc/M", "not a URL"),
        ("//bank/a", "not a URL"),
        ("ftp://bank/", "scheme ftp://"),
        ("http://", "host name"),
        ("http:///a", "host name"),
        ("http://ba nk/", "host name"),
        ("http://bank%41/", "host name"),
        ("http://ba\u2028nk/", "host name"),
        ("http://[::1/", "host name"),
        ("http://[::g]/", "host name"),
        ("http://[::1]x/", "host name"),
        ("http://[fe80::1%25eth0]/", "host name"),
        ("http://bank:0/", "port"),
        ("http://bank:65536/", "port"),
        ("http://bank:80a/", "port"),
        ("http://bank:٨٠/", "port"),
        ("http://bank:1:2/", "port"),
        ("http://user:pass@bank/", "user name or password"),
        ("http://bank/\r\nX: y", "control character"),
        ("http://bank/\x00", "control character"),
        ("http://bank/\ud800", "cannot be read"),
        ("http://bank/?\ud800", "cannot be read"),
    ],
)
def test_url_is_refused(url, problem):
    assert problem in read_target(url).problem


def test_a_refused_url_does_not_show_its_password():
    assert "pass" not in read_target("http://user:pa55@bank/").problem.replace("password", "")
    assert "pa55" not in read_target("http://user:pa55@bank/").problem


def test_query_of_the_url_comes_first():
    assert Target(path="/a").with_query("gid=1") == "/a?gid=1"
    assert Target(path="/a?x=1").with_query("gid=1") == "/a?x=1&gid=1"


def test_branch_query_is_escaped_as_go_does_it():
    call = BranchCall(
        gid="a b/ü&=~",
        mode="saga",
        branch_id="01",
        op="act+ion",
        url="",
        payload=b"",
        protocol="http",
        headers={},
        timeout_seconds=1,
    )

    assert branch_query(call) == "branch_id=01&gid=a+b%2F%C3%BC%26%3D~&op=act%2Bion&trans_type=saga"


def test_targets_remember_a_bounded_number_of_urls():
    targets = Targets()
    first = targets.get("http://bank/0")
    assert targets.get("http://bank/0") is first

    for number in range(5000):
        assert targets.get(f"http://bank/{number}").path == f"/{number}"

    assert len(targets._known) == 2048


def test_jsonrpc_is_told_by_the_text_of_the_url():
    assert is_jsonrpc("json-rpc", "http://bank/?method=A")
    assert not is_jsonrpc("json-rpc", "http://bank/a")
    assert not is_jsonrpc("http", "http://bank/?method=A")
    assert not is_jsonrpc("json-rpc", "bank:80/pkg.method/A")


def test_a_local_host_is_called_elsewhere_in_a_container():
    inside = Targets("host.docker.internal")

    assert inside.get("http://localhost:8081/a?b=localhost").address == ("host.docker.internal", 8081)
    assert inside.get("http://127.0.0.1/a").address == ("host.docker.internal", 80)
    assert inside.get("http://localhost:8081/a?b=localhost").host_header == "host.docker.internal:8081"
    assert inside.get("http://localhost:8081/a?b=localhost").path == "/a?b=localhost"
    assert inside.get("http://localhost.example/a").address == ("localhost.example", 80)
    assert Targets().get("http://localhost:8081/").address == ("localhost", 8081)
