"""The conformance suite of ``reefknot.store.base``.

To run it over a store, subclass the suite in a test module and provide two fixtures::

    @pytest.fixture
    def clock() -> ManualClock: ...

    @pytest.fixture
    def open_store(clock) -> Callable[[], Awaitable[Store]]:
        '''Opens the store; called again after a close it opens the same data.'''

    @pytest.mark.anyio
    class TestMyStore(StoreConformance): ...

The data must be empty at the first opening. Cases of methods that the store names in ``missing``
are skipped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from reefknot.store.base import Store
from reefknot.testing.conformance.store.leases import LeaseCases
from reefknot.testing.conformance.store.lifecycle import LifecycleCases
from reefknot.testing.conformance.store.queries import QueryCases
from reefknot.testing.conformance.store.registration import RegistrationCases
from reefknot.testing.conformance.store.transactions import TransactionCases

__all__ = ["SkipMissing", "StoreConformance"]


class StoreConformance(TransactionCases, RegistrationCases, LeaseCases, QueryCases, LifecycleCases):
    """Every case of the contract."""

    @pytest.fixture
    async def store(self, open_store: Callable[[], Awaitable[Store]]) -> AsyncIterator[Store]:
        """A fresh store, closed at the end; a case that calls a missing method is skipped."""
        store = await open_store()
        yield cast("Store", SkipMissing(store)) if store.missing else store
        await store.close()


class SkipMissing:
    """A store whose missing methods skip the test that asks for them.

    Args:
        store: the store as it is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name in self._store.missing:
            pytest.skip(f"the store does not offer {name}")
        return getattr(self._store, name)
