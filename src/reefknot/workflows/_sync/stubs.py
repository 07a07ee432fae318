# Written by scripts/twins.py from src/reefknot/workflows/_async/stubs.py: change that file, then `make twins`.
"""What a generated gRPC stub calls inside of a workflow instead of a channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reefknot.client.values import Answer
from reefknot.errors import Invalid


class StubChannel:
    """Stands for a channel in the constructor of a generated stub; each call becomes a recorded step.

    Args:
        target: the gRPC server, ``host:port``.
        call: does the step, with the method's URL and the serialized message.
    """

    def __init__(self, target: str, call: Callable[[str, bytes], Answer]) -> None:
        self._target = target
        self._call = call

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        **_: Any,
    ) -> Callable[..., Any]:
        """What a stub calls for a method; further arguments of the call, as a timeout, do not count."""
        serialize, deserialize = request_serializer or bytes, response_deserializer or bytes

        def called(request: Any, **_: Any) -> Any:
            answer = self._call(self._target + method, serialize(request))
            return deserialize(answer.body)

        return called

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """Streams are no steps: a call of one is refused."""
        return _refusing(method)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """As ``unary_stream``."""
        return _refusing(method)

    def stream_stream(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """As ``unary_stream``."""
        return _refusing(method)


def _refusing(method: str) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise Invalid("method", f"{method} is a stream, which a workflow cannot record", "call it in w.do")

    return refused
