"""Reefknot, a distributed transaction manager that speaks the protocols of DTM.

The names below are the SDK: what a program needs to start transactions and to write branches.
Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reefknot.barrier import AsyncBarrier, Barrier, Branch
    from reefknot.client import AsyncClient, Client
    from reefknot.errors import (
        BarrierMissing,
        Failure,
        GidConflict,
        Invalid,
        NotFound,
        Ongoing,
        OutcomeUnknown,
        ReefknotError,
        Refused,
        RolledBack,
        ServerUnavailable,
        WorkflowChanged,
    )
    from reefknot.workflows import AsyncWorkflow, AsyncWorkflows, Workflow, Workflows, workflow

__version__ = "0.1.0"

__all__ = [
    "AsyncBarrier",
    "AsyncClient",
    "AsyncWorkflow",
    "AsyncWorkflows",
    "Barrier",
    "BarrierMissing",
    "Branch",
    "Client",
    "Failure",
    "GidConflict",
    "Invalid",
    "NotFound",
    "Ongoing",
    "OutcomeUnknown",
    "ReefknotError",
    "Refused",
    "RolledBack",
    "ServerUnavailable",
    "Workflow",
    "WorkflowChanged",
    "Workflows",
    "workflow",
]

#: Where a name is; all others are errors.
_MODULES = {
    "AsyncBarrier": "reefknot.barrier",
    "AsyncClient": "reefknot.client",
    "AsyncWorkflow": "reefknot.workflows",
    "AsyncWorkflows": "reefknot.workflows",
    "Barrier": "reefknot.barrier",
    "Branch": "reefknot.barrier",
    "Client": "reefknot.client",
    "Workflow": "reefknot.workflows",
    "Workflows": "reefknot.workflows",
    "workflow": "reefknot.workflows",
}


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562): a program pays only for what it uses."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES.get(name, "reefknot.errors")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
