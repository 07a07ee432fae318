"""What the answer of a branch means, row by row."""

from __future__ import annotations

import pytest

from reefknot.model import Failure, Ongoing, Success, Unknown
from reefknot.wire.outcome import TEXT_LIMIT, Matching, grpc_outcome, http_outcome, jsonrpc_outcome, reason_text

OK = Success()

EXACT = [
    (200, b"", OK),
    (200, b"SUCCESS", OK),
    (200, b'{"dtm_result":"SUCCESS"}', OK),
    (204, b"", OK),
    (299, b"x", OK),
    (200, b"FAILURE", Failure("FAILURE FAILURE")),
    (200, b" FAILURE\r\n", Failure(" FAILURE\\r\\n FAILURE")),
    (200, b"ONGOING", Ongoing("ONGOING")),
    (200, b'"FAILURE"', Failure('"FAILURE" FAILURE')),
    (201, b'"ONGOING"\n', Ongoing('"ONGOING"\\n')),
    (200, b'"\\u0046AILURE"', Failure('"\\u0046AILURE" FAILURE')),
    (200, b'{"dtm_result":"FAILURE"}', Failure('{"dtm_result":"FAILURE"} FAILURE')),
    (200, b'{"a":1e999,"dtm_result":"ONGOING"}', Ongoing('{"a":1e999,"dtm_result":"ONGOING"}')),
    (200, b'\xef\xbb\xbf{"dtm_result":"ONGOING"}', Ongoing('\\ufeff{"dtm_result":"ONGOING"}')),
    (200, b'{"dtm_result":"\\u0046AILURE"}', Failure('{"dtm_result":"\\u0046AILURE"} FAILURE')),
    (200, b'{"dtm_result":"failure"}', OK),
    (200, b'{"dtm_result":" FAILURE"}', OK),
    (200, b'{"dtm_result":["FAILURE"]}', OK),
    (200, b'{"result":"FAILURE"}', OK),
    (200, b'[{"dtm_result":"FAILURE"}]', OK),
    (200, b'{"dtm_result":"FAILURE"', OK),
    (200, b"NO FAILURE", OK),
    (200, b"FAILURE ONGOING", OK),
    (200, b"\xff FAILURE", OK),
    (409, b"", Failure(" FAILURE")),
    (409, b"FAILURE", Failure("FAILURE FAILURE")),
    (409, b"no money", Failure("no money FAILURE")),
    (409, b"no money FAILURE", Failure("no money FAILURE")),
    (409, b"no money FAILURE FAILURE", Failure("no money FAILURE FAILURE")),
    (409, b"ONGOING", Failure("ONGOING FAILURE")),
    (425, b"FAILURE", Ongoing("FAILURE")),
    (301, b"", Unknown("HTTP status 301 (redirects are not followed): ")),
    (400, b"FAILURE", Unknown("HTTP status 400: FAILURE")),
    (500, b"ONGOING", Unknown("HTTP status 500: ONGOING")),
    (199, b"", Unknown("HTTP status 199: ")),
]

SUBSTRING = [
    (200, b"all well", OK),
    (201, b"", OK),
    (200, b"NO FAILURE", Failure("NO FAILURE")),
    (500, b"a FAILURE of sorts", Failure("a FAILURE of sorts FAILURE")),
    (409, b"ONGOING", Ongoing("ONGOING")),
    (409, b"no", Failure("no FAILURE")),
    (425, b"FAILURE", Ongoing("FAILURE")),
    (302, b"FAILURE", Failure("FAILURE FAILURE")),
    (302, b"", Unknown("HTTP status 302 (redirects are not followed): ")),
    (500, b"failure", Unknown("HTTP status 500: failure")),
]


@pytest.mark.parametrize(("status", "body", "outcome"), EXACT)
def test_http_exact(status, body, outcome):
    assert http_outcome(status, body, Matching.EXACT) == outcome


@pytest.mark.parametrize(("status", "body", "outcome"), SUBSTRING)
def test_http_substring_as_dtm(status, body, outcome):
    assert http_outcome(status, body, Matching.SUBSTRING) == outcome


def test_q7_jsonrpc_codes_are_compared_as_numbers():
    for code in (b"-32901", b"-32901.0", b'"-32901"', b'" -32901 "', b"-3.2901e4"):
        body = b'{"error":{"code":' + code + b',"message":"no money"}}'
        assert jsonrpc_outcome(200, body, Matching.EXACT) == Failure("no money FAILURE")
    for code in (b"-32902", b"-32902.0", b'"-32902"'):
        body = b'{"error":{"code":' + code + b',"message":"wait"}}'
        assert jsonrpc_outcome(200, body, Matching.EXACT) == Ongoing("wait")


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"jsonrpc":"2.0","id":"1","result":null}', OK),
        (200, b'{"error":null}', OK),
        (200, b'{"result":"FAILURE of nothing"}', OK),
        (200, b"{}", OK),
        (200, b'{"dtm_result":"FAILURE"}', Failure('{"dtm_result":"FAILURE"} FAILURE')),
        (200, b'{"error":{"code":-32901}}', Failure('{"error":{"code":-32901}} FAILURE')),
        (200, b'{"error":{"code":-32901,"message":7}}', Failure('{"error":{"code":-32901,"message":7}} FAILURE')),
        (200, b'{"error":{"code":-32603}}', Unknown('JSON-RPC error: {"error":{"code":-32603}}')),
        (200, b'{"error":{"code":true}}', Unknown('JSON-RPC error: {"error":{"code":true}}')),
        (200, b'{"error":{"code":{}}}', Unknown('JSON-RPC error: {"error":{"code":{}}}')),
        (200, b'{"error":{"code":"FAILURE"}}', Unknown('JSON-RPC error: {"error":{"code":"FAILURE"}}')),
        (200, b'{"error":{}}', Unknown('JSON-RPC error: {"error":{}}')),
        (200, b'{"error":"x"}', Unknown('the error of the JSON-RPC answer is not an object: {"error":"x"}')),
        (200, b"hello", Unknown("not a JSON-RPC answer: hello")),
        (200, b"[]", Unknown("not a JSON-RPC answer: []")),
        (204, b"", Unknown("not a JSON-RPC answer: ")),
        (500, b'{"error":{"code":-32901}}', Unknown('HTTP status 500: {"error":{"code":-32901}}')),
        (409, b'{"error":null}', Failure('{"error":null} FAILURE')),
        (425, b"", Ongoing("")),
    ],
)
def test_jsonrpc(status, body, outcome):
    assert jsonrpc_outcome(status, body, Matching.EXACT) == outcome


def test_jsonrpc_substring_looks_at_the_text_first():
    body = b'{"error":{"code":1,"message":"FAILURE"}}'

    assert jsonrpc_outcome(200, body, Matching.SUBSTRING) == Failure(f"{body.decode()} FAILURE")


def test_deep_json_is_unknown_where_it_could_hide_a_result():
    deep = b"[" * 100_000

    assert http_outcome(200, deep, Matching.EXACT) == OK
    assert isinstance(http_outcome(200, b'{"a":' + deep + b'"FAILURE"', Matching.EXACT), Unknown)
    assert isinstance(jsonrpc_outcome(200, b'{"error":' + deep, Matching.EXACT), Unknown)


def test_huge_numbers_are_no_codes():
    body = b'{"error":{"code":' + b"9" * 400 + b"}}"

    assert isinstance(jsonrpc_outcome(200, body, Matching.EXACT), Unknown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 中文", "plain ünïcode 中文"),
        (b"a\r\nb\x00\x1b[31m", "a\\r\\nb\\x00\\x1b[31m"),
        ("\u202egnp.exe\u2028", "\\u202egnp.exe\\u2028"),
        (b"\xff\xc3", "\ufffd\ufffd"),
        ("\ud800", "\\ud800"),
        (b"x" * TEXT_LIMIT, "x" * TEXT_LIMIT),
        (b"x" * (TEXT_LIMIT + 1), "x" * (TEXT_LIMIT - 15) + " ...(truncated)"),
        ("中" * 10_000, "中" * (TEXT_LIMIT - 15) + " ...(truncated)"),
        (b"\n" * TEXT_LIMIT, "\\n" * 504 + "\\" + " ...(truncated)"),
    ],
)
def test_reason_text(text, shown):
    assert reason_text(text) == shown


def test_a_long_refusal_keeps_its_suffix_within_the_limit():
    outcome = http_outcome(409, b"x" * 1_000_000 + b" FAILURE", Matching.EXACT)

    assert isinstance(outcome, Failure)
    assert len(outcome.reason) == TEXT_LIMIT
    assert outcome.reason.endswith("x ...(truncated) FAILURE")


@pytest.mark.parametrize("status", [200, 302, 400, 409, 425, 500])
def test_every_text_is_short_and_printable(status):
    for body in (b"\x00" * 5000, b"\xff" * 5000, "中".encode() * 5000, b"FAILURE" * 5000):
        for matching in Matching:
            for judge in (http_outcome, jsonrpc_outcome):
                match judge(status, body, matching):
                    case Failure(text) | Ongoing(text) | Unknown(text, _):
                        assert len(text) <= TEXT_LIMIT
                        assert text.isprintable()
                    case outcome:
                        assert outcome == OK


GRPC = [
    (0, "OK", "FAILURE", OK),
    (10, "ABORTED", "no money", Failure("no money FAILURE")),
    (10, "ABORTED", "", Failure(" FAILURE")),
    (10, "ABORTED", "no money FAILURE", Failure("no money FAILURE")),
    (10, "ABORTED", "ONGOING", Ongoing("ONGOING")),
    (10, "ABORTED", "ongoing", Failure("ongoing FAILURE")),
    (10, "ABORTED", " ONGOING", Failure(" ONGOING FAILURE")),
    (9, "FAILED_PRECONDITION", "FAILURE", Ongoing("FAILURE")),
    (2, "UNKNOWN", "FAILURE", Unknown("gRPC status UNKNOWN: FAILURE")),
    (13, "INTERNAL", "ONGOING", Unknown("gRPC status INTERNAL: ONGOING")),
    (1, "CANCELLED", "", Unknown("gRPC status CANCELLED: ")),
    (14, "UNAVAILABLE", "a\nb\ud800", Unknown("gRPC status UNAVAILABLE: a\\nb?")),
]


@pytest.mark.parametrize(("code", "name", "text", "outcome"), GRPC)
def test_grpc(code, name, text, outcome):
    assert grpc_outcome(code, name, text) == outcome


def test_long_grpc_messages_are_cut():
    assert len(grpc_outcome(10, "ABORTED", "x" * 10_000).reason) == TEXT_LIMIT
    assert len(grpc_outcome(2, "UNKNOWN", "ä" * 10_000).error) == TEXT_LIMIT
