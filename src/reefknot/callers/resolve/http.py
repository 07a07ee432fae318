"""Requests to registries that speak HTTP: several servers of which one has to answer, and TLS.

aiohttp carries them: they are few, and some need TLS or methods that branch calls do not have.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from reefknot.callers.resolve.base import Access, RegistryUnavailable

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

#: How long one server of a registry may take to answer before the next one is asked.
ANSWER_SECONDS = 2.0
#: The largest answer that is read.
_ANSWER_BYTES = 4 * 1024 * 1024


class RegistryAnswer(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: bytes

    def text(self) -> str:
        """The start of the body, for messages."""
        return self.body[:200].decode(errors="replace").strip()


class RegistryClient:
    """Asks the servers of one registry, beginning with the one that answered last.

    Args:
        name: what the registry is called in messages.
        hosts: its servers, ``host:port`` each.
        access: for TLS; credentials are the registry's own affair.
    """

    def __init__(self, name: str, hosts: tuple[str, ...], access: Access) -> None:
        self._name = name
        self._hosts = list(hosts)
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        final: frozenset[int] = frozenset(),
    ) -> RegistryAnswer:
        """Send a request until one server answers with anything but an error of its own (5xx).

        Every request that is sent here may be repeated.

        Args:
            method: the HTTP method.
            path: begins with a slash.
            body: JSON, unless the headers say otherwise.
            query: the query parameters, not escaped yet.
            headers: further headers.
            final: statuses from 500 on that are an answer like any other.

        Raises:
            RegistryUnavailable: none did.
        """
        problem = "it has no servers"
        for host in list(self._hosts):
            try:
                answer = await self._ask(host, method, path, body, query or {}, headers or {})
            except _NoAnswer as failure:
                problem = f"{host}: {failure}"
            else:
                if answer.status < 500 or answer.status in final:
                    return answer
                problem = f"{host} answers {answer.status}: {answer.text()}"
            # Asked last from now on. Another task may have moved it meanwhile.
            self._hosts.remove(host)
            self._hosts.append(host)
        raise RegistryUnavailable(f"{self._name} cannot be asked ({problem})")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _ask(
        self, host: str, method: str, path: str, body: bytes, query: dict[str, str], headers: dict[str, str]
    ) -> RegistryAnswer:
        import aiohttp  # noqa: PLC0415 - a quarter of a second that a server without discovery saves

        if self._session is None:
            try:
                self._session = self._open_session()
            except OSError as error:
                raise _NoAnswer(str(error)) from None
        scheme = "https" if self._access.tls else "http"
        try:
            async with self._session.request(
                method,
                f"{scheme}://{host}{path}",
                params=query,
                data=body or None,
                headers={"Content-Type": "application/json", **headers} if body else headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            ) as response:
                if (response.content_length or 0) > _ANSWER_BYTES:
                    raise _NoAnswer(f"its answer is larger than {_ANSWER_BYTES} bytes")
                return RegistryAnswer(response.status, await self._read(response))
        except TimeoutError:
            raise _NoAnswer(f"no answer in {ANSWER_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _NoAnswer(str(error) or type(error).__name__) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        while part := await response.content.readany():
            body += part
            if len(body) > _ANSWER_BYTES:
                raise _NoAnswer(f"its answer is larger than {_ANSWER_BYTES} bytes")
        return bytes(body)

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp  # noqa: PLC0415 - as above

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls_context(self._access) if self._access.tls else True, loop=asyncio.get_running_loop()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def tls_context(access: Access) -> ssl.SSLContext:
    """The TLS settings of a registry.

    Raises:
        OSError: a file cannot be read or holds no certificate; the text names it.
    """
    try:
        context = ssl.create_default_context(cafile=access.ca_file or None)
    except OSError as error:
        raise OSError(f"{access.ca_file}: {error.strerror or error}") from None
    if access.certificate_file:
        try:
            context.load_cert_chain(access.certificate_file, access.key_file or None)
        except OSError as error:
            files = f"{access.certificate_file} and {access.key_file or 'no key'}"
            raise OSError(f"{files}: {error.strerror or error}") from None
    return context


def decode(answer: RegistryAnswer, kind: type[T], name: str) -> T:
    """Read the JSON of an answer.

    Raises:
        RegistryUnavailable: it is something else.
    """
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryUnavailable(f"{name} answers what it should not ({error}): {answer.text()}") from None


class _NoAnswer(Exception):
    """One server did not answer; the text says why."""
