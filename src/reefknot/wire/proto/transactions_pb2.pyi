from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Transaction(_message.Message):
    __slots__ = ("gid", "mode", "status", "reason", "result", "protocol", "created_ms", "updated_ms", "finished_ms", "due_ms", "owner", "attempts", "parked", "custom_data", "query_prepared", "ops", "options", "interval_seconds", "error")
    GID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_MS_FIELD_NUMBER: _ClassVar[int]
    DUE_MS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_DATA_FIELD_NUMBER: _ClassVar[int]
    QUERY_PREPARED_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    gid: str
    mode: str
    status: str
    reason: str
    result: str
    protocol: str
    created_ms: int
    updated_ms: int
    finished_ms: int
    due_ms: int
    owner: str
    attempts: int
    parked: str
    custom_data: str
    query_prepared: str
    ops: _containers.RepeatedCompositeFieldContainer[BranchOp]
    options: Options
    interval_seconds: int
    error: str
    def __init__(self, gid: _Optional[str] = ..., mode: _Optional[str] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., result: _Optional[str] = ..., protocol: _Optional[str] = ..., created_ms: _Optional[int] = ..., updated_ms: _Optional[int] = ..., finished_ms: _Optional[int] = ..., due_ms: _Optional[int] = ..., owner: _Optional[str] = ..., attempts: _Optional[int] = ..., parked: _Optional[str] = ..., custom_data: _Optional[str] = ..., query_prepared: _Optional[str] = ..., ops: _Optional[_Iterable[_Union[BranchOp, _Mapping]]] = ..., options: _Optional[_Union[Options, _Mapping]] = ..., interval_seconds: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("wait", "timeout_seconds", "request_timeout_seconds", "retry_seconds", "retry_limit", "concurrent", "headers")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WAIT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RETRY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RETRY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    wait: bool
    timeout_seconds: int
    request_timeout_seconds: int
    retry_seconds: int
    retry_limit: int
    concurrent: bool
    headers: _containers.ScalarMap[str, str]
    def __init__(self, wait: bool = ..., timeout_seconds: _Optional[int] = ..., request_timeout_seconds: _Optional[int] = ..., retry_seconds: _Optional[int] = ..., retry_limit: _Optional[int] = ..., concurrent: bool = ..., headers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class BranchOp(_message.Message):
    __slots__ = ("branch_id", "op", "url", "status", "payload", "tries", "error", "changed_ms")
    BRANCH_ID_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CHANGED_MS_FIELD_NUMBER: _ClassVar[int]
    branch_id: str
    op: str
    url: str
    status: str
    payload: bytes
    tries: int
    error: str
    changed_ms: int
    def __init__(self, branch_id: _Optional[str] = ..., op: _Optional[str] = ..., url: _Optional[str] = ..., status: _Optional[str] = ..., payload: _Optional[bytes] = ..., tries: _Optional[int] = ..., error: _Optional[str] = ..., changed_ms: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("gid",)
    GID_FIELD_NUMBER: _ClassVar[int]
    gid: str
    def __init__(self, gid: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("status", "mode", "created_from_ms", "created_to_ms", "limit", "position")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FROM_MS_FIELD_NUMBER: _ClassVar[int]
    CREATED_TO_MS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    status: str
    mode: str
    created_from_ms: int
    created_to_ms: int
    limit: int
    position: str
    def __init__(self, status: _Optional[str] = ..., mode: _Optional[str] = ..., created_from_ms: _Optional[int] = ..., created_to_ms: _Optional[int] = ..., limit: _Optional[int] = ..., position: _Optional[str] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("transactions", "position")
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    transactions: _containers.RepeatedCompositeFieldContainer[Transaction]
    position: str
    def __init__(self, transactions: _Optional[_Iterable[_Union[Transaction, _Mapping]]] = ..., position: _Optional[str] = ...) -> None: ...

class WaitRequest(_message.Message):
    __slots__ = ("gid", "seconds")
    GID_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    gid: str
    seconds: int
    def __init__(self, gid: _Optional[str] = ..., seconds: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("gid",)
    GID_FIELD_NUMBER: _ClassVar[int]
    gid: str
    def __init__(self, gid: _Optional[str] = ...) -> None: ...

class ForceStopRequest(_message.Message):
    __slots__ = ("gid",)
    GID_FIELD_NUMBER: _ClassVar[int]
    gid: str
    def __init__(self, gid: _Optional[str] = ...) -> None: ...

class RetryNowRequest(_message.Message):
    __slots__ = ("gid",)
    GID_FIELD_NUMBER: _ClassVar[int]
    gid: str
    def __init__(self, gid: _Optional[str] = ...) -> None: ...

class RetryLaterRequest(_message.Message):
    __slots__ = ("later_than_seconds", "limit")
    LATER_THAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    later_than_seconds: int
    limit: int
    def __init__(self, later_than_seconds: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class RetryLaterReply(_message.Message):
    __slots__ = ("count", "remaining")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    count: int
    remaining: bool
    def __init__(self, count: _Optional[int] = ..., remaining: bool = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ("category", "limit", "position")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    category: str
    limit: int
    position: str
    def __init__(self, category: _Optional[str] = ..., limit: _Optional[int] = ..., position: _Optional[str] = ...) -> None: ...

class ListKeysReply(_message.Message):
    __slots__ = ("entries", "position")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[KeyValue]
    position: str
    def __init__(self, entries: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., position: _Optional[str] = ...) -> None: ...

class GetKeyRequest(_message.Message):
    __slots__ = ("category", "key")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    category: str
    key: str
    def __init__(self, category: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class KeyValue(_message.Message):
    __slots__ = ("category", "key", "value", "version", "created_ms", "updated_ms")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    category: str
    key: str
    value: str
    version: int
    created_ms: int
    updated_ms: int
    def __init__(self, category: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[str] = ..., version: _Optional[int] = ..., created_ms: _Optional[int] = ..., updated_ms: _Optional[int] = ...) -> None: ...
