"""Money moves between two banks, and none is lost or made, whatever the network and the kills do.

Two banks written with the SDK, each a process with its own database; one server; 100 accounts. Three
calls of ten are doubled, as many delayed, some arrive long after their sender gave up; the banks and the
server are killed at random and started again. The default is small: ``--bank-transfers`` asks for more.
"""

from collections import Counter

import pytest

from bank.check import breaches, effects, negative, prepared, story, total
from bank.run import USUAL_TRANSFERS, Run

MODES = {
    "saga": ("postgres", "mariadb", "redis"),
    "tcc": ("postgres", "mariadb", "redis"),
    "xa": ("postgres", "mariadb"),
    "msg": ("postgres", "mariadb", "redis"),
    "workflow": ("postgres", "mariadb", "redis"),
}
CASES = [(mode, kind, kind) for mode, kinds in MODES.items() for kind in kinds]
#: The two banks of one transfer need not have the same database. In long runs only.
MIXED = [("saga", "postgres", "redis"), ("tcc", "redis", "mariadb"), ("xa", "mariadb", "postgres")]


def name_of(case):
    mode, *kinds = case
    return "-".join((mode, *dict.fromkeys(kinds)))


def pytest_generate_tests(metafunc):
    if metafunc.function is test_money_is_neither_made_nor_lost:
        long = metafunc.config.getoption("bank_transfers", USUAL_TRANSFERS) > USUAL_TRANSFERS
        metafunc.parametrize("case", [*CASES, *MIXED] if long else CASES, ids=name_of)


def report(result):
    """The figures of a run."""
    said = Counter(one["outcome"] for one in result.said.values())
    ended = Counter(one.status for one in result.final.values())
    network = Counter()
    for (_, what), number in result.counts.items():
        network[what] += number
    most = max(effects(result).values(), default=0)
    print(f"{len(result.transfers)} transfers in {result.seconds:.0f} s: {dict(ended)}; told: {dict(said)}")
    print(f"requests: {dict(network)}; killed: {dict(result.kills)}")
    print(
        f"sum {total(result)}, {len(negative(result))} accounts below zero, {len(prepared(result))} prepared, "
        f"{len(effects(result))} operations took effect, none more than {most} times"
    )
    unknown = (one["why"] for one in result.said.values() if one["outcome"] == "unknown")
    print("why unknown:", dict(Counter(":".join(why.split(":")[:2]) for why in unknown)))


def test_money_is_neither_made_nor_lost(case, databases, count, seed, tmp_path):
    mode, *kinds = case
    result = Run(mode, databases(*kinds), tmp_path, seed).play(count)
    report(result)
    broken = breaches(result)
    assert not broken, story(result, broken)
    ended = Counter(one.status for one in result.final.values())
    # A run in which nothing happens shows nothing.
    assert ended["succeed"] > count / 10
    assert len(result.kills) == 3
    assert result.counts["banks", "doubled"] > count / 10


#: What a bank without a barrier comes to; and one that only says that it ended its xa branches.
PLANTED = {
    ("saga", "postgres"): ("the sum is", "took effect 2 times", "instead of"),
    ("tcc", "redis"): ("the sum is", "took effect 2 times", "instead of"),
    ("xa", "postgres"): ("is still prepared", "instead of"),
}


@pytest.mark.parametrize("case", PLANTED, ids=name_of)
def test_a_planted_mistake_is_found(case, databases, count, seed, tmp_path):
    mode, kind = case
    run = Run(mode, databases(kind, kind), tmp_path, seed, guarded=False)
    result = run.play(min(count, 24))
    found = breaches(result)
    if mode == "xa":
        for accounts in run.accounts:
            accounts.forget()
    for words in PLANTED[case]:
        assert any(words in sentence for sentence in found), (words, found)
