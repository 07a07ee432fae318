"""The exposition text: DTM's series, ours, and a bounded number of them."""

from __future__ import annotations

from reefknot.metrics import Metrics
from reefknot.store.base import Stats

NOTHING = Stats(unfinished={}, oldest_unfinished_ms=0, parked=0, due=0)


def metrics() -> Metrics:
    return Metrics("1.2.3", ["saga", "tcc"], lambda: 10_000)


def lines(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


def test_the_series_of_dtm() -> None:
    counted = metrics()
    counted.request_served("http", "submit", True, 0.004)
    counted.request_served("http", "submit", False, 0.2)
    counted.transaction_driven("saga", True, 0.1)
    counted.branch_called("saga", "action", True)

    text = lines(counted.text(NOTHING))

    assert 'dtm_server_info{version="1.2.3"} 1.0' in text
    assert 'dtm_server_process_total{api="submit",status="ok",type="http"} 1.0' in text
    assert 'dtm_server_process_total{api="submit",status="fail",type="http"} 1.0' in text
    assert 'dtm_server_response_duration_bucket{api="submit",le="0.005",type="http"} 1.0' in text
    assert 'dtm_server_response_duration_bucket{api="submit",le="+Inf",type="http"} 2.0' in text
    assert 'dtm_transaction_process_total{model="saga",status="ok"} 1.0' in text
    assert 'dtm_transaction_handled_duration_count{model="saga"} 1.0' in text
    assert 'dtm_branch_process_total{branchid="",branchtype="action",model="saga",status="ok"} 1.0' in text


def test_the_gauges_of_the_store() -> None:
    stats = Stats({("saga", "submitted"): 2, ("tcc", "prepared"): 1}, oldest_unfinished_ms=4_000, parked=1, due=2)

    text = lines(metrics().text(stats))

    assert 'reefknot_unfinished{model="saga",status="submitted"} 2.0' in text
    assert 'reefknot_unfinished{model="tcc",status="prepared"} 1.0' in text
    assert "reefknot_oldest_unfinished_seconds 6.0" in text
    assert "reefknot_parked 1.0" in text
    assert "reefknot_due 2.0" in text


def test_a_store_that_does_not_answer_hides_nothing_else() -> None:
    counted = metrics()
    counted.durability_read("full")
    assert "reefknot_store_up 1.0" in lines(counted.text(NOTHING))

    text = lines(counted.text(None))

    assert "reefknot_store_up 0.0" in text
    assert 'reefknot_durability{level="full"} 1.0' in text
    assert not [line for line in text if line.startswith("reefknot_due")]


def test_clients_cannot_grow_the_number_of_series() -> None:
    counted = metrics()
    counted.branch_called("saga", "action", True)
    counted.branch_called("teleport", "other", True)
    before = len(lines(counted.text(NOTHING)))
    for number in range(1_000):
        counted.branch_called("workflow of a client", f"step {number}", True)
        counted.transaction_driven("teleport", False, 1.0)

    text = lines(counted.text(NOTHING))

    assert len(text) - before < 40
    assert not [line for line in text if "step" in line]
