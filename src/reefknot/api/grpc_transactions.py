"""Our own gRPC service: what DTM's lacks. Each method translates, calls one verb, and translates back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from google.protobuf.empty_pb2 import Empty

from reefknot.api.grpc_calls import Calls
from reefknot.api.lookups import LATEST_MS, LIST_DEFAULT, LIST_MOST, SECONDS_MOST, in_range
from reefknot.coordinator.coordinator import Coordinator
from reefknot.coordinator.topics import CATEGORY
from reefknot.errors import NotFound
from reefknot.wire.grpc import STANDARD, key_value_message, transaction_message
from reefknot.wire.proto.transactions_pb2 import (
    ForceStopRequest,
    GetKeyRequest,
    GetRequest,
    KeyValue,
    ListKeysReply,
    ListKeysRequest,
    ListReply,
    ListRequest,
    RetryLaterReply,
    RetryLaterRequest,
    RetryNowRequest,
    Transaction,
    WaitRequest,
    WatchRequest,
)

SERVICE = "reefknot.v1.Transactions"
_DONE = Empty()


class TransactionsService:
    """The service ``reefknot.v1.Transactions``, method by method.

    Args:
        reset_seconds: what ``RetryLater`` takes if the client does not say.
    """

    def __init__(self, coordinator: Coordinator, reset_seconds: int) -> None:
        self._verbs = coordinator
        self._reset_seconds = reset_seconds

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """What a server needs to offer the service."""
        methods = {
            "Get": calls.unary("Get", GetRequest, self._get, STANDARD),
            "List": calls.unary("List", ListRequest, self._list, STANDARD),
            "Wait": calls.unary("Wait", WaitRequest, self._wait, STANDARD),
            "Watch": calls.stream("Watch", WatchRequest, self._watch, STANDARD),
            "ForceStop": calls.unary("ForceStop", ForceStopRequest, self._force_stop, STANDARD),
            "RetryNow": calls.unary("RetryNow", RetryNowRequest, self._retry_now, STANDARD),
            "RetryLater": calls.unary("RetryLater", RetryLaterRequest, self._retry_later, STANDARD),
            "ListKeys": calls.unary("ListKeys", ListKeysRequest, self._list_keys, STANDARD),
            "GetKey": calls.unary("GetKey", GetKeyRequest, self._get_key, STANDARD),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _get(self, request: GetRequest) -> Transaction:
        found = await self._verbs.get(request.gid)
        if found is None:
            raise NotFound(f"no transaction with gid {request.gid!r}")
        return transaction_message(found)

    async def _list(self, request: ListRequest) -> ListReply:
        found, position = await self._verbs.list(
            status=request.status,
            mode=request.mode,
            created_from_ms=in_range("created_from_ms", request.created_from_ms, LATEST_MS),
            created_to_ms=in_range("created_to_ms", request.created_to_ms or LATEST_MS, LATEST_MS),
            limit=in_range("limit", request.limit or LIST_DEFAULT, LIST_MOST),
            position=request.position,
        )
        return ListReply(transactions=[transaction_message(details) for details in found], position=position)

    async def _wait(self, request: WaitRequest) -> Transaction:
        seconds = in_range("seconds", request.seconds, SECONDS_MOST)
        return transaction_message(await self._verbs.wait(request.gid, seconds))

    async def _watch(self, request: WatchRequest) -> AsyncIterator[Transaction]:
        async for details in self._verbs.watch(request.gid):
            yield transaction_message(details)

    async def _force_stop(self, request: ForceStopRequest) -> Empty:
        await self._verbs.force_stop(request.gid)
        return _DONE

    async def _retry_now(self, request: RetryNowRequest) -> Empty:
        await self._verbs.wake(request.gid)
        return _DONE

    async def _retry_later(self, request: RetryLaterRequest) -> RetryLaterReply:
        later_than = in_range("later_than_seconds", request.later_than_seconds or self._reset_seconds, SECONDS_MOST)
        limit = in_range("limit", request.limit or LIST_DEFAULT, LIST_MOST)
        count, remaining = await self._verbs.wake_later(later_than, limit)
        return RetryLaterReply(count=count, remaining=remaining)

    async def _list_keys(self, request: ListKeysRequest) -> ListKeysReply:
        limit = in_range("limit", request.limit or LIST_DEFAULT, LIST_MOST)
        page = await self._verbs.keys(request.category or CATEGORY, limit, request.position)
        return ListKeysReply(entries=[key_value_message(entry) for entry in page.entries], position=page.position)

    async def _get_key(self, request: GetKeyRequest) -> KeyValue:
        entry = await self._verbs.key(request.category or CATEGORY, request.key)
        if entry is None:
            raise NotFound(f"no key {request.key!r} in category {request.category or CATEGORY!r}")
        return key_value_message(entry)
