"""DTM's Prometheus series and ours, from what ``observe`` reports.

Counting is a dictionary update; the client library is asked only when somebody scrapes (a labelled
``Counter.inc`` of it costs 1.5 µs, ten of which a transaction would need). Label values come from
fixed sets: an unknown mode or operation counts as ``other``, a route by its template.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from reefknot.model import Op
from reefknot.observe import Observer
from reefknot.store.base import Stats

#: Upper bounds in seconds: the Go client's defaults, as DTM has them.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_OPS = frozenset(Op)


class Histogram:
    """Counts of durations by bucket."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus wants them."""
        rows, sum_so_far = [], 0
        for bound, count in zip((*BUCKETS, float("inf")), self.counts, strict=True):
            sum_so_far += count
            rows.append(("+Inf" if bound == float("inf") else str(bound), float(sum_so_far)))
        return rows


class Metrics(Observer):
    """Counts what happens in this process.

    Args:
        version: shown in ``dtm_server_info``.
        modes: the known modes.
        now_ms: the store's clock, for the age of the oldest unfinished transaction.
    """

    def __init__(self, version: str, modes: Iterable[str], now_ms: Callable[[], int]) -> None:
        self._version = version
        self._modes = frozenset(modes)
        self._now_ms = now_ms
        self._requests: dict[tuple[str, str, str], int] = defaultdict(int)
        self._durations: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self._drives: dict[tuple[str, str], int] = defaultdict(int)
        self._ages: dict[str, Histogram] = defaultdict(Histogram)
        self._branches: dict[tuple[str, str, str], int] = defaultdict(int)
        self._events: dict[str, int] = defaultdict(int)
        self._stats: Stats | None = None
        self._durability = ""
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def request_served(self, protocol: str, api: str, ok: bool, seconds: float) -> None:
        """Count an API request."""
        self._requests[protocol, api, "ok" if ok else "fail"] += 1
        self._durations[protocol, api].observe(seconds)

    def transaction_driven(self, mode: str, ok: bool, seconds: float) -> None:
        """Count a drive."""
        mode = mode if mode in self._modes else "other"
        self._drives[mode, "ok" if ok else "fail"] += 1
        self._ages[mode].observe(max(seconds, 0.0))

    def branch_called(self, mode: str, op: str, ok: bool) -> None:
        """Count a branch call."""
        self._branches[mode, op if op in _OPS else "other", "ok" if ok else "fail"] += 1

    def write_refused(self, mode: str) -> None:
        """Count a fenced driver."""
        self._events["reefknot_fenced_total"] += 1

    def transactions_claimed(self, count: int) -> None:
        """Count claims."""
        self._events["reefknot_claimed_total"] += count

    def transactions_purged(self, count: int) -> None:
        """Count the retention's deletions."""
        self._events["reefknot_purged_total"] += count

    def transaction_parked(self, mode: str) -> None:
        """Count a parked transaction."""
        self._events["reefknot_parked_total"] += 1

    def task_failed(self, name: str) -> None:
        """Count a defect."""
        self._events["reefknot_task_failures_total"] += 1

    def durability_read(self, level: str) -> None:
        """Remember the level."""
        self._durability = level

    def alert_dropped(self) -> None:
        """Count an alert that was not delivered."""
        self._events["reefknot_alerts_dropped_total"] += 1

    def text(self, stats: Stats | None) -> bytes:
        """The exposition text; ``stats`` are the store's counts now, None if it does not answer."""
        self._stats = stats
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every series of this process, for the client library."""
        info = GaugeMetricFamily("dtm_server_info", "The server's version.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield self._durability_series()
        yield from self._request_series()
        yield from self._transaction_series()
        for name, text in _EVENTS.items():
            counter = CounterMetricFamily(name, text)
            counter.add_metric([], self._events[name])
            yield counter
        up = GaugeMetricFamily("reefknot_store_up", "Whether the store answered this scrape.")
        up.add_metric([], float(self._stats is not None))
        yield up
        if self._stats is not None:
            yield from self._store_series(self._stats)

    def _durability_series(self) -> Metric:
        levels = GaugeMetricFamily("reefknot_durability", "1 for the store's durability level now.", labels=["level"])
        for level in ("full", "crash", "process", "none"):
            levels.add_metric([level], float(level == self._durability))
        return levels

    def _request_series(self) -> Iterator[Metric]:
        served = CounterMetricFamily(
            "dtm_server_process_total", "API requests by route.", labels=["type", "api", "status"]
        )
        for (protocol, api, status), count in self._requests.items():
            served.add_metric([protocol, api, status], count)
        yield served
        durations = HistogramMetricFamily(
            "dtm_server_response_duration", "Seconds until the answer.", labels=["type", "api"]
        )
        for (protocol, api), histogram in self._durations.items():
            durations.add_metric([protocol, api], histogram.buckets(), histogram.total)
        yield durations

    def _transaction_series(self) -> Iterator[Metric]:
        drives = CounterMetricFamily(
            "dtm_transaction_process_total", "Drives of transactions.", labels=["model", "status"]
        )
        for (mode, status), count in self._drives.items():
            drives.add_metric([mode, status], count)
        yield drives
        ages = HistogramMetricFamily(
            "dtm_transaction_handled_duration", "Seconds from creation to the end of a drive.", labels=["model"]
        )
        for mode, histogram in self._ages.items():
            ages.add_metric([mode], histogram.buckets(), histogram.total)
        yield ages
        # DTM puts the branch id here, which a client chooses: the label stays, its value does not.
        branches = CounterMetricFamily(
            "dtm_branch_process_total", "Branch calls.", labels=["model", "branchid", "branchtype", "status"]
        )
        for (mode, op, status), count in self._branches.items():
            branches.add_metric([mode, "", op, status], count)
        yield branches

    def _store_series(self, stats: Stats) -> Iterator[Metric]:
        unfinished = GaugeMetricFamily(
            "reefknot_unfinished", "Unfinished transactions in the store.", labels=["model", "status"]
        )
        for (mode, status), count in stats.unfinished.items():
            unfinished.add_metric([mode, status], count)
        yield unfinished
        age = (self._now_ms() - stats.oldest_unfinished_ms) / 1000 if stats.oldest_unfinished_ms else 0.0
        yield GaugeMetricFamily("reefknot_oldest_unfinished_seconds", "Age of the oldest one.", value=max(age, 0.0))
        yield GaugeMetricFamily("reefknot_parked", "Transactions that wait for an operator.", value=stats.parked)
        yield GaugeMetricFamily("reefknot_due", "Transactions that are due and not claimed.", value=stats.due)


_EVENTS = {
    "reefknot_fenced_total": "Drives that ended because another driver had taken over.",
    "reefknot_claimed_total": "Transactions claimed for recovery.",
    "reefknot_purged_total": "Finished transactions deleted because they were old enough.",
    "reefknot_parked_total": "Transactions that were parked.",
    "reefknot_task_failures_total": "Background tasks that ended with a defect.",
    "reefknot_alerts_dropped_total": "Alerts that could not be delivered.",
}
