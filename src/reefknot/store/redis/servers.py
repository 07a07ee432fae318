"""The Redis servers behind a store: which of them holds a bucket, and a connection to each.

A bucket is a part of the transactions whose keys share one slot of a cluster. Without a cluster
there is one server for all. Servers that move, fail over or restart are found again by the next
command that needs them; a command is repeated only if the server said that it did not run it.
"""

from __future__ import annotations

import asyncio
import re
from binascii import crc_hqx
from functools import partial
from typing import Any

from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.store.redis.address import Address
from reefknot.store.redis.connection import Connection, ServerError, Word, connect
from reefknot.store.redis.scripts import Script

SLOTS = 16384

#: A command waits so long before it tries again a slot that is moving.
_TRY_AGAIN_SECONDS = 0.05
#: After a failure the next attempt to connect waits so long; meanwhile commands fail at once.
_PAUSE_SECONDS = 0.1
#: A server that can be reached accepts a connection within this time.
_CONNECT_SECONDS = 2.0
_WRONG_LOGIN = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})

Place = tuple[str, int]


def slot_of(tag: str) -> int:
    """The slot of every key with this hash tag."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def bucket_tags(buckets: int) -> tuple[str, ...]:
    """A hash tag for each bucket, so that the buckets lie evenly over the slots."""
    tags: dict[int, str] = {}
    number = 0
    while len(tags) < buckets:
        tag = str(number)
        tags.setdefault(slot_of(tag) * buckets // SLOTS, tag)
        number += 1
    return tuple(tags[bucket] for bucket in range(buckets))


class Servers:
    """Runs scripts on whichever server holds a bucket.

    Args:
        address: where to find the servers.
        scripts: loaded into every server.
    """

    def __init__(self, address: Address, scripts: dict[str, Script]) -> None:
        self._address = address
        self._scripts = scripts
        self._tls = address.tls_context()
        self._cluster = address.kind == "cluster"
        self._connections: dict[Place, Connection] = {}
        #: The attempt to connect to each server that is under way: one, however many commands wait for it.
        self._attempts: dict[Place, asyncio.Task[Connection]] = {}
        self._tags: tuple[str, ...] = ("",)
        self._places: list[Place | None] = [None]
        self._lines: list[Connection | None] = [None]
        self._starts: list[str] = [""]
        self._keys: list[tuple[Word, ...]] = [(1, "")]
        self._opening: asyncio.Task[None] | None = None
        self._failed_until = 0.0
        self._failure: dict[Place | None, Exception] = {}
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def clustered(self) -> bool:
        """Whether this is a cluster. Known after ``discover``."""
        return self._cluster

    async def discover(self) -> None:
        """Connect for the first time, and see whether a single server belongs to a cluster.

        Raises:
            ConfigError: the login is wrong.
            StoreUnavailable: no server can be reached.
        """
        if self._address.kind == "single":
            connection = await self._connected(self._address.seeds[0])
            self._cluster = b"cluster_enabled:1" in await _asked(connection, "INFO", "cluster")
        await self._find_places()

    def use_buckets(self, prefix: str, buckets: int) -> None:
        """Divide the slots. To be called once, after ``discover``."""
        self._tags = bucket_tags(buckets)
        self._starts = [f"{prefix}{{{tag}}}:" for tag in self._tags]
        # In a cluster two keys are declared that never exist. While a slot moves, some of its keys are
        # here and some there; a script with a missing key among several is refused on both sides then.
        self._keys = [(2, start, start + "-") if self._cluster else (1, start) for start in self._starts]
        self._places = [None] * buckets
        self._lines = [None] * buckets

    async def call(self, script: Script, bucket: int, *words: Word) -> Any:
        """Run a script on a bucket; ``words`` are its ARGV.

        Raises:
            Overloaded: too many commands are waiting.
            StoreUnavailable: the server cannot be reached, refuses, or its answer was lost.
        """
        self._calls += 1
        self._idle.clear()
        try:
            line = self._lines[bucket]
            if line is None or line.lost is not None:
                line = await self._line(bucket)
            try:
                return await line.send("EVALSHA", script.sha, *self._keys[bucket], *words)
            except ServerError as error:
                return await self._again(error, line, script, bucket, words)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def masters(self) -> list[Connection]:
        """A connection to every server that holds a bucket.

        Raises:
            StoreUnavailable: one of them cannot be reached.
        """
        lines = [await self._usable(bucket) for bucket in range(len(self._lines))]
        return list(dict.fromkeys(lines))

    async def erase(self, master: Connection, batch: int) -> int:
        """Delete the keys of all buckets from one server; returns how many transactions that were.

        What says how many buckets there are stays, as other nodes rely on it. A key that a failing
        server kept is found by the next call.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        prefix = self._starts[0].partition("{")[0]
        pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix) + "{*}:*"
        own = {start.encode() for start in self._starts}
        kept = {start + b"meta" for start in own}
        count = 0
        cursor = b"0"
        while True:
            cursor, keys = await _asked(master, "SCAN", cursor, "MATCH", pattern, "COUNT", batch)
            wanted = [key for key in keys if key[: key.find(b"}:") + 2] in own and key not in kept]
            await asyncio.gather(*(_asked(master, "UNLINK", key) for key in wanted))
            count += len([key for key in wanted if key.partition(b"}:")[2].startswith(b"t:")])
            if cursor == b"0":
                return count

    async def close(self) -> None:
        """Wait for the answers that are due, then close every connection."""
        await self._idle.wait()
        self._closed = True
        # Whoever wanted these was cancelled, or asked for the servers without running a script.
        running: list[asyncio.Task[Any]] = [*self._attempts.values(), *([self._opening] if self._opening else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for connection in self._connections.values():
            connection.abort("was closed: the store is closed")

    async def _usable(self, bucket: int) -> Connection:
        line = self._lines[bucket]
        return line if line is not None and line.lost is None else await self._line(bucket)

    async def _line(self, bucket: int) -> Connection:
        """Connect to the server of a bucket. Everyone who waits for it shares one attempt."""
        loop = asyncio.get_running_loop()
        if self._opening is None:
            if loop.time() < self._failed_until and (failure := self._failure.get(self._places[bucket])):
                raise StoreUnavailable(str(failure)) from failure
            self._opening = loop.create_task(self._open_lines(), name="finding the Redis servers")
        opening = self._opening
        await asyncio.wait((opening,))
        if opening.cancelled():
            raise StoreUnavailable("the store is closed")
        opening.result()
        line = self._lines[bucket]
        if line is not None and line.lost is None:
            return line
        failure = self._failure.get(self._places[bucket]) or StoreUnavailable("Redis: the connection was lost again")
        raise StoreUnavailable(str(failure)) from failure

    async def _open_lines(self) -> None:
        """Find out who holds which bucket and connect to each; failures are kept, not raised."""
        self._failure = {}
        try:
            await self._find_places()
            for place in dict.fromkeys(self._places):
                try:
                    self._assign(place, await self._connected(place) if place else None)
                except (StoreUnavailable, ConfigError) as error:
                    self._failure[place] = error
                    self._assign(place, None)
        except (StoreUnavailable, ConfigError) as error:
            self._failure = dict.fromkeys(self._places, error)
        finally:
            if self._failure:
                self._failed_until = asyncio.get_running_loop().time() + _PAUSE_SECONDS
            self._opening = None

    def _assign(self, place: Place | None, connection: Connection | None) -> None:
        for bucket, held_by in enumerate(self._places):
            if held_by == place:
                self._lines[bucket] = connection

    async def _again(
        self, error: ServerError, line: Connection, script: Script, bucket: int, words: tuple[Word, ...]
    ) -> Any:
        """Repeat a command that the server refused to run, where and how it says."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._address.timeout_seconds
        while loop.time() < until:
            asking = error.kind == "ASK"
            if asking:
                line = await self._connected(_redirect(error, line))
            elif error.kind == "MOVED":
                place = _redirect(error, line)
                line = await self._connected(place)
                self._places[bucket], self._lines[bucket] = place, line
            elif error.kind == "TRYAGAIN":
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
                line = await self._usable(bucket)
            elif error.kind != "NOSCRIPT":
                break
            if asking:
                # Both go out in one piece: nothing comes between them.
                line.send("ASKING").add_done_callback(asyncio.Future.exception)
            program = ("EVAL", script.text) if error.kind == "NOSCRIPT" else ("EVALSHA", script.sha)
            try:
                return await line.send(*program, *self._keys[bucket], *words)
            except ServerError as repeated:
                error = repeated
        if error.kind == "READONLY":  # it was a master: ask again who is
            line.abort(f"takes no writes: {error}")
        raise StoreUnavailable(f"Redis {line.name}: {error}") from error

    async def _find_places(self) -> None:
        """Who holds each bucket now, as a cluster, a sentinel or the URL says."""
        address = self._address
        if self._cluster:
            answer = await self._first_answer(address.seeds, "CLUSTER", "SLOTS")
            # A node that does not know its own name says nothing in its place.
            host = address.seeds[0][0]
            owners = [
                (first, last, ((node[0] or b"").decode() or host, int(node[1]))) for first, last, node, *_ in answer
            ]
            for bucket, tag in enumerate(self._tags):
                slot = slot_of(tag)
                self._places[bucket] = next((place for first, last, place in owners if first <= slot <= last), None)
                if self._places[bucket] is None:
                    raise StoreUnavailable(f"Redis cluster: no server holds slot {slot}")
        elif address.kind == "sentinel":
            command = ("SENTINEL", "get-master-addr-by-name", address.master_name)
            found = await self._first_answer(address.seeds, *command)
            self._places = [(found[0].decode(), int(found[1]))] * len(self._places)
        else:
            self._places = [address.seeds[0]] * len(self._places)

    async def _first_answer(self, seeds: tuple[Place, ...], *command: str) -> Any:
        """The first good answer of the known servers."""
        problems: list[StoreUnavailable] = []
        live = [place for place, connection in self._connections.items() if connection.lost is None]
        for place in dict.fromkeys((*seeds, *live) if self._address.kind == "sentinel" else (*live, *seeds)):
            try:
                if self._address.kind == "sentinel":
                    answer = await self._ask_sentinel(place, *command)
                else:
                    answer = await _asked(await self._connected(place), *command)
                if answer:
                    return answer
                problems.append(StoreUnavailable(f"Redis {place[0]}:{place[1]} knows nothing of it"))
            except StoreUnavailable as error:
                problems.append(error)
        raise StoreUnavailable("; ".join(map(str, problems))) from problems[-1]

    async def _ask_sentinel(self, place: Place, *command: str) -> Any:
        if place not in self._address.seeds:
            return None
        connection = await connect(*place, seconds=_CONNECT_SECONDS, tls=self._tls)
        try:
            return await _asked(connection, *command)
        finally:
            connection.abort("was closed: it answered")

    async def _connected(self, place: Place) -> Connection:
        """The connection to a server. Everyone who needs it meanwhile shares one attempt, and its failure.

        Raises:
            ConfigError: the login is wrong.
            StoreUnavailable: the server cannot be reached or used, or the store is closed.
        """
        found = self._connections.get(place)
        if found is not None and found.lost is None:
            return found
        attempt = self._attempts.get(place)
        if attempt is None:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            attempt = asyncio.get_running_loop().create_task(self._connect(place), name="connecting to Redis")
            self._attempts[place] = attempt
            attempt.add_done_callback(partial(self._attempted, place))
        await asyncio.wait((attempt,))  # one who is cancelled here leaves it to the others
        if attempt.cancelled():
            raise StoreUnavailable("the store is closed")
        error = attempt.exception()
        if isinstance(error, (ConfigError, StoreUnavailable)):
            raise type(error)(str(error)) from error
        return attempt.result()

    def _attempted(self, place: Place, attempt: asyncio.Task[Connection]) -> None:
        del self._attempts[place]
        if not attempt.cancelled():
            attempt.exception()  # all who waited may have been cancelled; nobody else asks for it

    async def _connect(self, place: Place) -> Connection:
        """Connect to a server, log in and give it all scripts."""
        address = self._address
        seconds = min(address.timeout_seconds, _CONNECT_SECONDS)
        connection = await connect(*place, seconds=seconds, tls=self._tls)
        connection.answer_within(address.timeout_seconds)
        try:
            if address.user or address.password:
                login = (address.user, address.password) if address.user else (address.password,)
                await connection.send("AUTH", *login)
            if address.database:
                await connection.send("SELECT", address.database)
            await asyncio.gather(*(connection.send("SCRIPT", "LOAD", script.text) for script in self._scripts.values()))
            replica = not self._cluster and (await connection.send("ROLE"))[0] != b"master"
        except ServerError as error:
            connection.abort("was closed: it cannot be used")
            if error.kind in _WRONG_LOGIN:
                raise ConfigError(f"Redis {connection.name} refuses this user: {error}") from error
            raise StoreUnavailable(f"Redis {connection.name}: {error}") from error
        except BaseException:
            connection.abort("was closed: it cannot be used")
            raise
        if replica:
            connection.abort("is a replica, which takes no writes")
            raise StoreUnavailable(str(connection.lost))
        self._connections[place] = connection
        return connection


async def _asked(connection: Connection, *command: Word) -> Any:
    try:
        return await connection.send(*command)
    except ServerError as error:
        raise StoreUnavailable(f"Redis {connection.name}: {error}") from error


def _redirect(error: ServerError, line: Connection) -> Place:
    """Where ``MOVED slot host:port`` points; an empty host is the one that answered."""
    host, _, port = error.rest.partition(" ")[2].rpartition(":")
    return host or line.name.rpartition(":")[0], int(port)
