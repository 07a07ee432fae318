"""The SDK's client: starts transactions and looks at them. ``AsyncClient`` is the same, awaited.

Everything that decides (what is said, what an answer means, in which order) is plain functions beside
this file. The classes that do the talking are written once, in ``_async``; ``_sync`` is made from it by
``scripts/twins.py``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reefknot.client._async.client import AsyncClient
    from reefknot.client._async.msg import AsyncMsg
    from reefknot.client._async.saga import AsyncSaga
    from reefknot.client._async.tcc import AsyncTcc, AsyncTccBranches
    from reefknot.client._async.xa import AsyncXa
    from reefknot.client._sync.client import Client
    from reefknot.client._sync.msg import Msg
    from reefknot.client._sync.saga import Saga
    from reefknot.client._sync.tcc import Tcc, TccBranches
    from reefknot.client._sync.xa import Xa
    from reefknot.client.building import Step
    from reefknot.client.exchange import AsyncTransport, NotSent, Request, Response, Transport
    from reefknot.client.values import Answer, BranchState, Outcome, Page, Transaction

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncMsg",
    "AsyncSaga",
    "AsyncTcc",
    "AsyncTccBranches",
    "AsyncTransport",
    "AsyncXa",
    "BranchState",
    "Client",
    "Msg",
    "NotSent",
    "Outcome",
    "Page",
    "Request",
    "Response",
    "Saga",
    "Step",
    "Tcc",
    "TccBranches",
    "Transaction",
    "Transport",
    "Xa",
]

_MODULES = {
    "Answer": "values",
    "AsyncClient": "_async.client",
    "AsyncMsg": "_async.msg",
    "AsyncSaga": "_async.saga",
    "AsyncTcc": "_async.tcc",
    "AsyncTccBranches": "_async.tcc",
    "AsyncTransport": "exchange",
    "AsyncXa": "_async.xa",
    "BranchState": "values",
    "Client": "_sync.client",
    "Msg": "_sync.msg",
    "NotSent": "exchange",
    "Outcome": "values",
    "Page": "values",
    "Request": "exchange",
    "Response": "exchange",
    "Saga": "_sync.saga",
    "Step": "building",
    "Tcc": "_sync.tcc",
    "TccBranches": "_sync.tcc",
    "Transaction": "values",
    "Transport": "exchange",
    "Xa": "_sync.xa",
}


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562): a synchronous program does not load the asynchronous face."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
