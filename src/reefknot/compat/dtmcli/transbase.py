"""What is said about a transaction."""

from __future__ import annotations

from typing import Any

from reefknot.client.options import TransactionOptions, transaction_options


class TransBase:
    """The options of a transaction, to be set as attributes.

    ``passthrough_headers`` is read by no server any more; ``branch_headers`` is.

    Args:
        gid: its id.
        trans_type: its mode.
    """

    def __init__(self, gid: str, trans_type: str) -> None:
        self.gid = gid
        self.trans_type = trans_type
        self.custom_data: str | None = None
        self.steps: list[dict[str, str]] = []
        self.payloads: list[str] = []
        self.query_prepared: str | None = None
        self.protocol: str | None = None

        self.wait_result = False
        #: Times are whole seconds; with 0 the server's setting counts.
        self.timeout_to_fail = 0
        self.request_timeout = 0
        self.retry_interval = 0
        self.passthrough_headers: list[str] = []
        self.branch_headers: dict[str, Any] = {}
        self.concurrent = False

    def options(self) -> TransactionOptions:
        """The options as the SDK has them.

        Raises:
            Invalid: a time is negative.
        """
        return transaction_options(
            wait=self.wait_result,
            timeout=self.timeout_to_fail or None,
            request_timeout=self.request_timeout or None,
            retry_every=self.retry_interval or None,
            headers={name: str(value) for name, value in self.branch_headers.items()},
            trace={},
        )
