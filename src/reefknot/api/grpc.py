"""The gRPC API: the nine methods of DTM's service. Each translates, calls one verb, and translates back."""

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

from reefknot.api.grpc_calls import Calls
from reefknot.coordinator.coordinator import Coordinator
from reefknot.wire.grpc import DTM_PANICS, DTM_RETURNS, branch_request, progresses_reply, transaction_request
from reefknot.wire.proto.dtmgimp_pb2 import (
    DtmBranchRequest,
    DtmGidReply,
    DtmProgressesReply,
    DtmRequest,
    DtmTopicRequest,
)

SERVICE = "dtmgimp.Dtm"
_DONE = Empty()


class DtmService:
    """DTM's service, method by method."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._verbs = coordinator

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """What a server needs to offer the service."""
        methods = {
            "NewGid": calls.unary("NewGid", Empty, self._new_gid, DTM_PANICS),
            "Submit": calls.unary("Submit", DtmRequest, self._submit, DTM_PANICS),
            "Prepare": calls.unary("Prepare", DtmRequest, self._prepare, DTM_PANICS),
            "Abort": calls.unary("Abort", DtmRequest, self._abort, DTM_PANICS),
            "RegisterBranch": calls.unary("RegisterBranch", DtmBranchRequest, self._register, DTM_RETURNS),
            "PrepareWorkflow": calls.unary("PrepareWorkflow", DtmRequest, self._prepare_workflow, DTM_PANICS),
            "Subscribe": calls.unary("Subscribe", DtmTopicRequest, self._subscribe, DTM_RETURNS),
            "Unsubscribe": calls.unary("Unsubscribe", DtmTopicRequest, self._unsubscribe, DTM_RETURNS),
            "DeleteTopic": calls.unary("DeleteTopic", DtmTopicRequest, self._delete_topic, DTM_RETURNS),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _new_gid(self, request: Empty) -> DtmGidReply:
        return DtmGidReply(Gid=self._verbs.new_gid())

    async def _submit(self, request: DtmRequest) -> Empty:
        await self._verbs.submit(transaction_request(request))
        return _DONE

    async def _prepare(self, request: DtmRequest) -> Empty:
        await self._verbs.prepare(transaction_request(request))
        return _DONE

    async def _abort(self, request: DtmRequest) -> Empty:
        await self._verbs.abort(transaction_request(request))
        return _DONE

    async def _register(self, request: DtmBranchRequest) -> Empty:
        await self._verbs.register(branch_request(request))
        return _DONE

    async def _prepare_workflow(self, request: DtmRequest) -> DtmProgressesReply:
        return progresses_reply(await self._verbs.prepare_workflow(transaction_request(request)))

    async def _subscribe(self, request: DtmTopicRequest) -> Empty:
        await self._verbs.topics.subscribe(request.Topic, request.URL, request.Remark)
        return _DONE

    async def _unsubscribe(self, request: DtmTopicRequest) -> Empty:
        await self._verbs.topics.unsubscribe(request.Topic, request.URL)
        return _DONE

    async def _delete_topic(self, request: DtmTopicRequest) -> Empty:
        await self._verbs.topics.delete(request.Topic)
        return _DONE
