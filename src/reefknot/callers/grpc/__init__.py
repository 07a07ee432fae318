"""gRPC branch calls: the payload as the message, byte for byte, and the branch's identity as metadata."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

from reefknot.callers.base import BranchCall, CallerSettings, DiscoveryError
from reefknot.callers.grpc.channels import Channels
from reefknot.callers.pool import Address, show
from reefknot.callers.services import Services
from reefknot.callers.target import LOCAL_HOSTS, names_service, read_authority
from reefknot.model import Outcome, Unknown
from reefknot.wire.outcome import reason_text

if TYPE_CHECKING:
    from reefknot.callers.grpc.channel import Pairs

_METHOD = re.compile(r"/[!-.0-~]+/[!-~]+")
_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")

#: DTM asks an application by this method to go on with a workflow; it alone has a message of DTM's.
_WORKFLOW_METHOD = "/workflow.Workflow/Execute"
_CACHED_URLS = 2048


class MetadataError(ValueError):
    """Something that cannot be sent as metadata; says what and why."""


class Place(NamedTuple):
    """A gRPC branch URL in parts.

    ``target`` is what gRPC connects to, or with ``service`` what service discovery finds.
    ``problem`` says why the URL cannot be called; the other fields mean nothing then.
    """

    target: str = ""
    method: str = ""
    service: bool = False
    problem: str = ""


class GrpcCaller:
    """Calls branches over gRPC, in plain text.

    Args:
        settings: limits, user agent, service config and service discovery.
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._channels = Channels(settings)
        self._services = Services(settings.discovery, "grpc")
        self._local_host = settings.local_host
        self._places: dict[str, Place] = {}

    def accepts(self, protocol: str, url: str) -> bool:
        """Every URL that is not http(s), unless the transaction is an http one."""
        return protocol != "http" and not url.startswith(("http://", "https://"))

    def check(self, url: str) -> str:
        """What is wrong with the URL, in words; empty if it can be called."""
        if importlib.util.find_spec("grpc") is None:
            return "it needs gRPC, which is not installed; install reefknot[grpc]"
        return self._place(url).problem

    async def call(self, call: BranchCall) -> Outcome:
        """Call the branch once and say what it came to; see ``Caller.call``."""
        place = self._place(call.url)
        if place.problem:
            return Unknown(reason_text(f"the URL cannot be called: {place.problem}"), unreachable=True)
        try:
            metadata = request_metadata(call)
            if place.service:
                return await self._call_service(call, place, metadata)
            return await self._call(place.target, place.method, call.payload, metadata, call.timeout_seconds)
        except (MetadataError, DiscoveryError) as error:
            return Unknown(reason_text(str(error)), unreachable=True)

    async def close(self) -> None:
        """Close unused channels; calls in flight end by themselves."""
        await self._channels.close()

    async def _call_service(self, call: BranchCall, place: Place, metadata: Pairs) -> Outcome:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + call.timeout_seconds
        target = service_target(await self._services.addresses(place.target, call.timeout_seconds))
        return await self._call(target, place.method, call.payload, metadata, deadline - loop.time())

    async def _call(self, target: str, method: str, payload: bytes, metadata: Pairs, timeout_seconds: float) -> Outcome:
        if method == _WORKFLOW_METHOD:
            payload = workflow_message(payload)
        channel = self._channels.enter(target)
        try:
            return await channel.call(method, payload, metadata, timeout_seconds)
        finally:
            await self._channels.leave(channel)

    def _place(self, url: str) -> Place:
        place = self._places.get(url)
        if place is None:
            place = self._read(url)
            if len(self._places) >= _CACHED_URLS:
                self._places.clear()
            self._places[url] = place
        return place

    def _read(self, url: str) -> Place:
        if names_service(url):
            try:
                service, method = self._services.split(url)
            except DiscoveryError as error:
                return Place(problem=str(error))
            return Place(service, method, service=True, problem=_method_problem(method))
        authority, slash, rest = url.partition("/")
        if not slash:
            return Place(
                problem="no '/' found between the target and the method; write host:port/package.Service/Method"
            )
        if "@" in authority:
            return Place(problem="it contains a user name or password; send them in a branch header")
        host, _, port, problem = read_authority(authority, 0)
        if not problem and not port:
            problem = f"no port found in {authority!r}; write host:port/package.Service/Method"
        if self._local_host and host in LOCAL_HOSTS:
            host = self._local_host
        method = slash + rest
        return Place(f"dns:///{show((host, port))}", method, problem=problem or _method_problem(method))


def request_metadata(call: BranchCall) -> Pairs:
    """The metadata that tells a branch which operation is meant, and the branch headers.

    Raises:
        MetadataError: gRPC cannot carry a header, or an identity that is not ASCII.
    """
    identity = (
        ("dtm-gid", call.gid),
        ("dtm-trans_type", call.mode),
        ("dtm-branch_id", call.branch_id),
        ("dtm-op", call.op),
        ("dtm-dtm", ""),
    )
    if not _VALUE.fullmatch(f"{call.gid}{call.mode}{call.branch_id}{call.op}"):
        raise MetadataError(
            "gid, branch id or op has a character that gRPC metadata cannot carry: only ASCII can be sent"
        )
    if not call.headers:
        return identity
    return identity + tuple(_header(name, value) for name, value in call.headers.items())


def _header(name: str, value: str) -> tuple[str, str | bytes]:
    key = name.lower()
    if not _KEY.fullmatch(key):
        raise MetadataError(f"the header name {name!r} cannot be sent over gRPC: use letters, digits, '_', '-' and '.'")
    if key.endswith("-bin"):
        return key, value.encode(errors="surrogateescape")
    if not _VALUE.fullmatch(value):
        # The value may be a secret, so it is not shown.
        raise MetadataError(
            f"the value of the header {name} is not printable ASCII; over gRPC its name must end in -bin"
        )
    return key, value.strip(" ")


def workflow_message(payload: bytes) -> bytes:
    """The message of the method that resumes a workflow, around the workflow's input."""
    from reefknot.wire.proto.workflow_pb2 import WorkflowData  # noqa: PLC0415 - as grpc, only when it is needed

    return WorkflowData(Data=payload).SerializeToString()


def service_target(addresses: tuple[Address, ...]) -> str:
    """The target that stands for all addresses of a service, so that gRPC balances between them.

    gRPC takes several addresses only if all are IPv4 or all are IPv6; of any others the first is taken.

    Args:
        addresses: at least one; the first is the one whose turn it is.
    """
    for scheme, kind in (("ipv4", ipaddress.IPv4Address), ("ipv6", ipaddress.IPv6Address)):
        if all(_is(kind, host) for host, _ in addresses):
            return f"{scheme}:{','.join(show(address) for address in sorted(set(addresses)))}"
    return f"dns:///{show(addresses[0])}"


def _is(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], host: str) -> bool:
    try:
        kind(host)
    except ValueError:
        return False
    return True


def _method_problem(method: str) -> str:
    if _METHOD.fullmatch(method):
        return ""
    return f"{method!r} names no method; write host:port/package.Service/Method"


def caller(settings: CallerSettings) -> GrpcCaller:
    """Make the caller of this module."""
    return GrpcCaller(settings)
