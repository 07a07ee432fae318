"""Gids of the server."""

from __future__ import annotations

import random

import pytest

from reefknot.ids import ALPHABET, LENGTH, gid_maker
from reefknot.testing.clock import ManualClock


def test_gids_are_unique_and_have_the_form_of_dtm() -> None:
    new_gid = gid_maker(ManualClock(), random.Random(1).getrandbits)

    gids = [new_gid() for _ in range(10_000)]

    assert len(set(gids)) == len(gids)
    assert all(len(gid) == LENGTH and set(gid) <= set(ALPHABET) for gid in gids)


@pytest.mark.anyio
async def test_a_later_gid_is_a_larger_text() -> None:
    clock = ManualClock()
    new_gid = gid_maker(clock, random.Random(2).getrandbits)
    gids = []
    for _ in range(500):
        gids.append(new_gid())
        await clock.advance(0.001)

    assert gids == sorted(gids)
