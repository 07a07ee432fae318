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


class Intake:
    """Checks a request at the door, resolves what depends on settings and topics, and stores it."""

    def __init__(self, store: Store, callers: Callers, topics: Topics, settings: Settings, limits: Limits) -> None:
        self._store = store
        self._callers = callers
        self._topics = topics
        self._settings = settings
        self._limits = limits
        self._lease_ms = round(settings.lease_seconds * 1000)

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
        check, protocol = self._callers.check, request.protocol
        if request.query_prepared and (problem := check(protocol, request.query_prepared)):
            raise Invalid("query_prepared", problem)
        for number, step in enumerate(request.steps):
            for key, url in step.items():
                if url and not url.startswith(TOPIC_SCHEME) and (problem := check(protocol, url)):
                    raise Invalid(f"steps[{number}].{key}", problem)
