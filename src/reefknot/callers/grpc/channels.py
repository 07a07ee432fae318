"""gRPC channels: one for each target, a bounded number of them, opened when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from reefknot.callers.base import CallerSettings

if TYPE_CHECKING:
    from reefknot.callers.grpc.channel import Channel

#: Channels that are kept; of those without a call under way the longest unused is closed first.
CHANNELS_MOST = 1_024

#: A server that lets clients ping does so every 5 minutes at most, by default:
#: https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md
_KEEPALIVE_MS = 330_000
#: For so long data may stay unacknowledged until the connection counts as broken.
_KEEPALIVE_TIMEOUT_MS = 10_000
#: Pauses between attempts to connect. gRPC's own of up to 2 minutes would keep calls from a
#: participant that is back; how often a branch is called is the transaction's matter.
_RECONNECT_FIRST_MS, _RECONNECT_MOST_MS = 200, 2_000
#: A name is resolved again this long after the last time at the earliest, when connections break.
_RESOLVE_AGAIN_MS = 5_000


class Channels:
    """Opens channels and closes what nobody has used for longest; to be used on one event loop.

    Args:
        settings: limits, user agent and service config.
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._options = channel_options(settings)
        self._channels: OrderedDict[str, Channel] = OrderedDict()
        self._closed = False

    def enter(self, target: str) -> Channel:
        """The channel of a target, for one call; ``leave`` must be called at its end.

        Args:
            target: as gRPC names it, for example ``dns:///bank:8080``.
        """
        channel = self._channels.get(target)
        if channel is None:
            from reefknot.callers.grpc.channel import Channel  # noqa: PLC0415 - that module says why

            channel = self._channels[target] = Channel(target, [*self._options, *authority_option(target)])
        else:
            self._channels.move_to_end(target)
        channel.calls += 1
        return channel

    async def leave(self, channel: Channel) -> None:
        """A call has ended."""
        channel.calls -= 1
        if len(self._channels) > CHANNELS_MOST or self._closed:
            await self._close_unused(0 if self._closed else CHANNELS_MOST)

    async def close(self) -> None:
        """Close the channels without a call under way now, and the others when their calls have ended."""
        self._closed = True
        await self._close_unused(0)

    async def _close_unused(self, most: int) -> None:
        """Close channels without a call under way, the longest unused first, until so many are left."""
        unused = [target for target, channel in self._channels.items() if not channel.calls]
        gone = [self._channels.pop(target) for target in unused[: max(len(self._channels) - most, 0)]]
        for channel in gone:
            await channel.close()


def authority_option(target: str) -> list[tuple[str, int | str]]:
    """The ``:authority`` of calls over a channel to addresses: the first of them, as if it were the only one.

    gRPC itself takes all of them, with commas in between. That is no authority, and servers and
    proxies that look at it refuse the call. Of a name gRPC takes the name.

    Args:
        target: as for ``Channels.enter``.
    """
    scheme, _, addresses = target.partition(":")
    return [("grpc.default_authority", addresses.split(",")[0])] if scheme in ("ipv4", "ipv6") else []


def channel_options(settings: CallerSettings) -> list[tuple[str, int | str]]:
    """The options of every channel: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html."""
    return [
        ("grpc.service_config", settings.grpc_service_config),
        # The transaction repeats calls; gRPC does so only where the service config asks for it.
        ("grpc.enable_retries", int("retryPolicy" in settings.grpc_service_config)),
        ("grpc.primary_user_agent", settings.user_agent),
        ("grpc.max_receive_message_length", settings.response_limit_bytes),
        # The error text of a participant is metadata.
        ("grpc.max_metadata_size", settings.response_limit_bytes),
        ("grpc.absolute_max_metadata_size", settings.response_limit_bytes),
        ("grpc.client_idle_timeout_ms", max(round(settings.idle_seconds * 1000), 1)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_FIRST_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MOST_MS),
        ("grpc.dns_min_time_between_resolutions_ms", _RESOLVE_AGAIN_MS),
        ("grpc.enable_http_proxy", 0),
    ]
