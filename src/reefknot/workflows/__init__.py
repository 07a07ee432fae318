"""Workflows: a function of yours is the transaction; its steps are recorded, and a crash resumes it.

    @workflow("transfer")
    def transfer(w: Workflow, amount: int) -> None:
        w.call("http://bank/out", {"amount": amount}, undo="http://bank/out/undo")
        w.call("http://bank/in", {"amount": amount}, undo="http://bank/in/undo")

    flows = Workflows(client, [transfer], callback="http://me/workflow")
    flows.run(transfer, 30)

The functions are plain; there is no sandbox and no registry but the ``Workflows`` you make.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reefknot.workflows._async.branch import AsyncWorkflowBranch
    from reefknot.workflows._async.registry import AsyncExecution, AsyncWorkflows
    from reefknot.workflows._async.workflow import AsyncWorkflow
    from reefknot.workflows._sync.branch import WorkflowBranch
    from reefknot.workflows._sync.registry import Execution, Workflows
    from reefknot.workflows._sync.workflow import Workflow
    from reefknot.workflows.definition import AsyncWorkflowFunction, WorkflowFunction, workflow

__all__ = [
    "AsyncExecution",
    "AsyncWorkflow",
    "AsyncWorkflowBranch",
    "AsyncWorkflowFunction",
    "AsyncWorkflows",
    "Execution",
    "Workflow",
    "WorkflowBranch",
    "WorkflowFunction",
    "Workflows",
    "workflow",
]

_MODULES = {
    "AsyncExecution": "_async.registry",
    "AsyncWorkflow": "_async.workflow",
    "AsyncWorkflowBranch": "_async.branch",
    "AsyncWorkflowFunction": "definition",
    "AsyncWorkflows": "_async.registry",
    "Execution": "_sync.registry",
    "Workflow": "_sync.workflow",
    "WorkflowBranch": "_sync.branch",
    "WorkflowFunction": "definition",
    "Workflows": "_sync.registry",
    "workflow": "definition",
}


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562): a synchronous program does not load the asynchronous face."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
