"""Where the writer runs: in a thread of this process, or in a process of its own.

Both take one batch at a time. The process runs ``main``: it reads batches from the socket it
inherited and answers each with its results, as msgpack behind a length of four bytes, until the
other end is closed. It ignores the signals of the terminal: only its parent ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from reefknot.errors import StoreUnavailable
from reefknot.store.sqlite.database import PACKAGE
from reefknot.store.sqlite.writer import Operation, Plain, Writer

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class Host(Protocol):
    """Runs a writer."""

    async def execute(self, batch: Sequence[Operation]) -> list[Plain]:
        """Apply a batch; as ``Writer.apply``. Called again only after it returned."""
        ...

    async def close(self) -> None:
        """Let the writer close the file and end."""
        ...


class ThreadHost:
    """Runs the writer in a thread of this process."""

    def __init__(self, path: Path) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Plain], asyncio.Future[Plain]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(path)
        self._thread = threading.Thread(target=self._run, name="sqlite writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            call, future = work
            result: Plain = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as raised:  # noqa: BLE001 - it belongs to the one who waits for the result
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop was closed, so nobody waits
                self._loop.call_soon_threadsafe(_answer, future, result, error)

    def _call(self, call: Callable[[], Plain]) -> asyncio.Future[Plain]:
        future = self._loop.create_future()
        self._work.put((call, future))
        return future

    async def execute(self, batch: Sequence[Operation]) -> list[Plain]:
        results: list[Plain] = await self._call(lambda: self._writer.apply(batch))
        return results

    async def close(self) -> None:
        await self._call(self._writer.close)
        self._work.put(None)
        self._thread.join()


def _answer(future: asyncio.Future[Plain], result: Plain, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class ProcessHost:
    """Runs the writer in a process of its own; starts another one when it dies.

    Args:
        path: the database file.
        lock: the descriptor of the lock file, which the process holds as well: nobody else gets
            the file while it is still at work.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the writer's process, None if there is none."""
        return self._process.pid if self._process else None

    async def execute(self, batch: Sequence[Operation]) -> list[Plain]:
        message = _encode(batch)  # a value that cannot be encoded raises ValueError here
        try:
            reader, writer = self._streams or await self._start()
            writer.write(len(message).to_bytes(4, "big") + message)
            size = int.from_bytes(await reader.readexactly(4), "big")
            kind, content = _decode(await reader.readexactly(size))
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._abandon()
            raise StoreUnavailable(f"the writer of {self._path} ended unexpectedly") from error
        except BaseException:
            await self._abandon()  # an answer may still come; it must not be taken for the next one
            raise
        if kind == "unavailable":
            raise StoreUnavailable(content)
        if kind == "refused":
            raise ValueError(content)
        results: list[Plain] = content
        return results

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                [sys.executable, "-P", "-m", PACKAGE, str(theirs.fileno()), str(self._path)],
                pass_fds=(theirs.fileno(), self._lock),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # whoever reads our output must see it end with us
                start_new_session=True,
            )
        self._streams = await asyncio.open_connection(sock=ours, limit=1 << 20)
        return self._streams

    async def _abandon(self) -> None:
        """Make sure that the process is gone; whether its last batch was committed stays open."""
        streams, self._streams = self._streams, None
        process, self._process = self._process, None
        if streams is not None:
            streams[1].close()
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        process, self._process = self._process, None
        if streams is not None:
            streams[1].close()
        if process is not None:
            await asyncio.to_thread(process.wait)


def serve(connection: socket.socket, path: Path) -> None:
    """Apply the batches that arrive until the other end is closed."""
    writer = Writer(path)
    with connection, connection.makefile("rb", buffering=1 << 18) as incoming:
        while len(head := incoming.read(4)) == 4:
            message = incoming.read(int.from_bytes(head, "big"))
            answer: tuple[str, Plain]
            try:
                answer = ("done", writer.apply(_decode(message)))
            except StoreUnavailable as error:
                answer = ("unavailable", str(error))
            except ValueError as error:
                answer = ("refused", str(error))
            encoded = _encode(answer)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(len(encoded).to_bytes(4, "big") + encoded)
    writer.close()


def main() -> None:
    """Entry point of the writer's process: the socket's descriptor and the path as arguments."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptor, path = sys.argv[1:]
    os.set_inheritable(int(descriptor), False)
    serve(socket.socket(fileno=int(descriptor)), Path(path))
