"""What a call over gRPC ended with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[str, str]:
    """Make a call that must not succeed; the name of its status and its text."""
    try:
        call(*arguments, **named)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("the call succeeded")
