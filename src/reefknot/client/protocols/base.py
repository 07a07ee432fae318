"""What every protocol of the server can say, and what its answers can mean."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Protocol

import msgspec

from reefknot.client.exchange import Request, Response
from reefknot.client.values import BranchMessage, Page, Transaction, TransactionMessage, WorkflowRecord


class Verb(StrEnum):
    """What a client can ask the server; the values are DTM's names."""

    NEW_GID = "newGid"
    PREPARE = "prepare"
    SUBMIT = "submit"
    ABORT = "abort"
    REGISTER = "registerBranch"
    PREPARE_WORKFLOW = "prepareWorkflow"
    FORCE_STOP = "forceStop"
    RETRY_NOW = "resetNextCronTime"
    GET = "query"
    WAIT = "wait"
    LIST = "all"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"

    @property
    def changes(self) -> bool:
        """Whether it matters if a request without an answer was carried out."""
        return self not in {Verb.NEW_GID, Verb.GET, Verb.WAIT, Verb.LIST, Verb.RETRY_NOW}


#: What a verb says: about a transaction, about a branch, or just fields by DTM's names.
Message = TransactionMessage | BranchMessage | Mapping[str, str]


class Kind(Enum):
    """What an answer of the server means."""

    DONE = "done"
    #: A definite no.
    FAILURE = "failure"
    #: Not finished yet.
    ONGOING = "ongoing"
    #: The request is wrong and was not carried out.
    INVALID = "invalid"
    #: There is no such request here: the URL leads elsewhere, or the server lacks it.
    ELSEWHERE = "elsewhere"
    #: The server does not let this client in.
    DENIED = "denied"
    #: What the request names does not exist.
    MISSING = "missing"
    #: Not carried out, for lack of room.
    BUSY = "busy"
    #: It may have been carried out.
    UNKNOWN = "unknown"


class Reply(msgspec.Struct, frozen=True):
    """An answer of the server: what it means, in words where it is no success, and its body."""

    kind: Kind
    text: str = ""
    body: bytes = b""


#: How DTM begins the text of a 500 for something that does not exist.
NOT_FOUND_TEXTS = (
    "no TransGlobal with gid:",
    "storage: NotFound",
    "topic not found",
    "no such a topic",
    "this topic is empty",
    "no such an url",
)
#: What DTM says to a repeated subscription, which has nothing to do.
SUBSCRIBED_TEXT = "this url exists"


class ServerProtocol(Protocol):
    """Translates verbs into requests and responses into replies."""

    def request(self, verb: Verb, message: Message, headers: Mapping[str, str], timeout: float) -> Request:
        """The request that says this.

        Raises:
            Invalid: this protocol cannot say it.
        """
        ...

    def reply(self, verb: Verb, response: Response) -> Reply:
        """What the response means."""
        ...

    def gid(self, body: bytes) -> str:
        """The gid in the answer to ``NEW_GID``. Raises ValueError if there is none, as all below."""
        ...

    def transaction(self, body: bytes) -> Transaction | None:
        """The transaction in the answer to ``GET`` or ``WAIT``."""
        ...

    def page(self, body: bytes) -> Page:
        """The page in the answer to ``LIST``."""
        ...

    def workflow(self, body: bytes) -> WorkflowRecord:
        """The workflow in the answer to ``PREPARE_WORKFLOW``."""
        ...
