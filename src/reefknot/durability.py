"""How much of what was acknowledged survives: asked of the store at the start and every minute.

Settings of a database can change under a running server; an operator must not learn of it from a
crash.
"""

from __future__ import annotations

import logging

from reefknot.errors import ConfigError
from reefknot.observe import Observer
from reefknot.store.base import Durability, Store

_log = logging.getLogger(__name__)

#: How often the store is asked.
LOOK_SECONDS = 60.0
FULL = "full"


class DurabilityWatch:
    """What the store said last; a change is logged."""

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self.known = Durability("unknown", "the store was not asked yet")

    async def look(self) -> Durability:
        """Ask the store now.

        Raises:
            StoreUnavailable: it does not answer; what was known stays.
        """
        found = await self._store.durability()
        if found != self.known:
            level = logging.INFO if found.level == FULL else logging.WARNING
            _log.log(level, "durability", extra={"durability": found.level, "detail": found.detail})
        self.known = found
        self._observer.durability_read(found.level)
        return found


async def require_full(watch: DurabilityWatch) -> None:
    """Refuse to go on with a store that can lose what it acknowledged.

    Raises:
        ConfigError: the level is not ``full``; the text says what the store's settings are.
    """
    found = await watch.look()
    if found.level != FULL:
        raise ConfigError(f"RequireDurability: the store's durability is {found.level!r}, not 'full' ({found.detail})")
