"""Waiting for the end of a transaction."""

from __future__ import annotations

import math

from reefknot.client._async.server import AsyncServer
from reefknot.client.environment import AsyncTime
from reefknot.client.values import Transaction
from reefknot.errors import Invalid, NotFound, Ongoing

#: The longest wait inside one request; proxies cut longer ones off.
WAIT_SLICE_SECONDS = 20
#: How often a server that cannot wait is asked.
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


async def wait_for(server: AsyncServer, gid: str, seconds: float, clock: AsyncTime) -> Transaction:
    """The transaction once it has ended.

    Args:
        server: who is asked: our server waits itself, DTM's is asked again and again.
        gid: which.
        seconds: the longest wait.
        clock: measures it.

    Raises:
        Ongoing: it has not ended in this time.
        NotFound: there is none.
        ServerUnavailable: no clear answer.
    """
    until = clock.monotonic() + seconds
    pause, can_wait = FIRST_PAUSE_SECONDS, True
    while True:
        left = max(0.0, until - clock.monotonic())
        try:
            # Less than a second cannot be said: it is spent between two questions.
            slice_seconds = min(WAIT_SLICE_SECONDS, math.floor(left))
            found = await (server.wait(gid, slice_seconds) if can_wait and slice_seconds else server.get(gid))
        except Invalid:
            if not can_wait or not slice_seconds:
                raise
            can_wait = False
            continue
        if found is None:
            raise NotFound(f"there is no transaction {gid}", gid=gid, url=server.address.url)
        if found.ended:
            return found
        left = until - clock.monotonic()
        if left <= 0:
            what = f"the {found.mode} is {found.status} after {seconds:g} s"
            raise Ongoing(what, gid=gid, url=server.address.url, advice="wait longer, or look with client.get")
        await clock.sleep(min(left, pause))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
