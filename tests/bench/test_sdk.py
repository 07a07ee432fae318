"""What the client costs is measured by the client itself, in a program of its own."""

from reefknot.bench import sdk
from reefknot.bench.rows import Plan, Storage
from reefknot.bench.selection import choose


def test_submit_through_both_faces_is_measured(tmp_path):
    plan = Plan(0.1, 0.1, tmp_path)
    chosen = choose(plan, [Storage("memory")], ["sdk"])
    assert [name for name, _ in chosen] == ["memory/sdk"]
    sync, asynchronous = sdk.clients(plan, Storage("memory"))
    assert (sync.name, asynchronous.name) == ("memory/sdk/sync", "memory/sdk/async")
    # Less than a system call takes, or more than a second, would be no measurement.
    assert 5 < sync.value < 1_000_000
    assert 5 < asynchronous.value < 1_000_000
