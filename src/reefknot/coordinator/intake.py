"""Turns an accepted request into a stored transaction."""

from __future__ import annotations

from reefknot.callers import Callers
from reefknot.coordinator.records import content_hash, encode_body
from reefknot.coordinator.settings import Settings
from reefknot.coordinator.topics import Topics
from reefknot.engine.admission import Limits, check_request
from reefknot.engine.mode import TOPIC_SCHEME, Mode
from reefknot.engine.schedule import base_interval_seconds
from reefknot.errors import Invalid
from reefknot.model import Body, Status, TransactionRequest
from reefknot.store.base import NEVER_MS, Created, NewTransaction, Record, Store

#: URLs remembered as callable; a client that never repeats one makes the set start anew.
KNOWN_URLS_MOST = 4_096


class Intake:
    """Checks a request at the door, resolves what depends on settings and topics, and stores it."""

    def __init__(self, store: Store, callers: Callers, topics: Topics, settings: Settings, limits: Limits) -> None:
        self._store = store
        self._callers = callers
        self._topics = topics
        self._settings = settings
        self._limits = limits
        self._lease_ms = round(settings.lease_seconds * 1000)
        #: URLs that were found callable; most transactions use the same few (0.1 µs instead of 2).
        self._callable: set[tuple[str, str]] = set()

    async def create(
        self, request: TransactionRequest, mode: Mode, status: Status, owner: str = ""
    ) -> tuple[Created | Record, Body]:
        """Store the transaction unless its gid exists.

        Args:
            request: what the client asked for.
            mode: the mode it names.
            status: ``prepared`` or ``submitted``.
            owner: who drives it from the start; empty if nobody does.

        Returns:
            What the store says, and the body that the request comes to.

        Raises:
            Invalid: the request cannot be carried out.
            NotFound: a step names a topic without subscribers.
        """
        check_request(request, mode, self._limits)
        self._check_targets(request)
        names = mode.topics(request)
        body = self._body(request, mode, await self._topics.expand(names) if names else {})
        if status is Status.PREPARED:
            seconds = mode.first_visit_seconds(body)
            due_in_ms = NEVER_MS if seconds is None else seconds * 1000
        else:
            due_in_ms = self._lease_ms if owner else 0
        lease_ms = self._lease_ms if owner else 0
        stored = encode_body(body)
        new = NewTransaction(request.gid, mode.name, status, stored, content_hash(request), owner, lease_ms, due_in_ms)
        return await self._store.create(new), body

    def _body(self, request: TransactionRequest, mode: Mode, topics: dict[str, tuple[str, ...]]) -> Body:
        options = request.options
        return Body(
            request.steps,
            request.payloads,
            request.query_prepared,
            request.protocol,
            request.custom_data,
            options,
            mode.timeout_seconds(options, self._settings.timeout_seconds),
            base_interval_seconds(options, self._settings.retry_seconds),
            topics,
        )

    def _check_targets(self, request: TransactionRequest) -> None:
        """Refuse a URL that no caller can call.

        A topic's URLs were checked when they were subscribed.
        """
        known, protocol = self._callable, request.protocol
        if request.query_prepared and (protocol, request.query_prepared) not in known:
            self._check_target("query_prepared", protocol, request.query_prepared)
        for number, step in enumerate(request.steps):
            for key, url in step.items():
                if (protocol, url) not in known and url and not url.startswith(TOPIC_SCHEME):
                    self._check_target(f"steps[{number}].{key}", protocol, url)

    def _check_target(self, field: str, protocol: str, url: str) -> None:
        if problem := self._callers.check(protocol, url):
            raise Invalid(field, problem)
        if len(self._callable) >= KNOWN_URLS_MOST:
            self._callable.clear()
        self._callable.add((protocol, url))
