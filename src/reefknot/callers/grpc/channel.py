"""One gRPC channel and the calls over it. Importing this module imports grpc: 150 ms and 20 MB.

Measured on one core of a busy 2-core machine, 32 calls in flight, against a service that answers nothing:
120 to 135 µs of CPU for a call. Half of it is threads of gRPC that wake each other; ``grpc.aio``'s own
metadata, and asking for the running loop, cost 10 µs more. Calling its Cython layer directly saves another
15, but that is not public.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import grpc.aio

from reefknot.model import Outcome, Unknown
from reefknot.wire.outcome import grpc_outcome

#: The metadata of a call: names and values.
Pairs = tuple[tuple[str, str | bytes], ...]

#: Methods whose callables are kept.
_METHODS_MOST = 1_024
_OK = grpc.StatusCode.OK


class _Metadata(grpc.aio.Metadata):
    """Pairs as they are; the base class copies them into a dict of lists first."""

    def __init__(self, pairs: Pairs) -> None:
        super().__init__()
        self._pairs = pairs

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


class Channel:
    """A channel to one target; to be made and used on one event loop.

    Args:
        target: as gRPC names it, for example ``dns:///bank:8080``.
        options: of the channel: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html
    """

    __slots__ = ("_channel", "_loop", "_methods", "calls")

    def __init__(self, target: str, options: list[tuple[str, int | str]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = grpc.aio.insecure_channel(target, options)
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        #: Calls under way.
        self.calls = 0

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """Whether it is connected."""
        return self._channel.get_state()

    async def call(self, path: str, message: bytes, metadata: Pairs, timeout_seconds: float) -> Outcome:
        """Call a method once and say what it came to.

        Args:
            path: of the method, for example ``/bank.Bank/TransOut``.
            message: the request, sent as it is.
            metadata: must be legal.
            timeout_seconds: the time limit for everything.
        """
        method = self._methods.get(path)
        if method is None:
            if len(self._methods) >= _METHODS_MOST:
                self._methods.clear()
            method = self._methods[path] = self._channel.unary_unary(path)
        started = self._loop.time()
        try:
            await method(message, timeout=max(timeout_seconds, 0.0), metadata=_Metadata(metadata))
        except grpc.aio.AioRpcError as error:
            return self._refused(error, self._loop.time() - started >= timeout_seconds)
        return grpc_outcome(_OK.value[0], _OK.name, "")

    async def close(self) -> None:
        """Close the connections; no call may be under way."""
        await self._channel.close()

    def _refused(self, error: grpc.aio.AioRpcError, late: bool) -> Outcome:
        """What a status other than OK comes to.

        DEADLINE_EXCEEDED and UNAVAILABLE may be gRPC's own or an answer. An answer comes before the time
        limit, and leaves the channel connected.
        """
        code = error.code()
        outcome = grpc_outcome(code.value[0], code.name, error.details() or "")
        if not isinstance(outcome, Unknown):
            return outcome
        silent = (code is grpc.StatusCode.DEADLINE_EXCEEDED and late) or (
            code is grpc.StatusCode.UNAVAILABLE and self.state is not grpc.ChannelConnectivity.READY
        )
        return Unknown(outcome.error, unreachable=silent)
