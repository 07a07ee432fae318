"""The processes of a measurement: starting, ending, and what the kernel says they used."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

T = TypeVar("T")

#: How long a process may take to start, to answer a question, and to end.
PATIENCE_SECONDS = 30.0
_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measurement could not be made; the text says why."""


class Usage(msgspec.Struct, frozen=True):
    """What a process and its children have used since they started.

    ``main_us`` is CPU time of the first process's main thread, ``other_us`` that of its other
    threads and of its children, in microseconds. ``rss_bytes`` is memory now.
    """

    main_us: float
    other_us: float
    written_bytes: int
    rss_bytes: int

    @property
    def total_us(self) -> float:
        """CPU time of all of them."""
        return self.main_us + self.other_us

    def since(self, before: Usage) -> Usage:
        """What was used after ``before``; the memory stays the present one."""
        return Usage(
            self.main_us - before.main_us,
            self.other_us - before.other_us,
            self.written_bytes - before.written_bytes,
            self.rss_bytes,
        )


def usage(pid: int) -> Usage:
    """Read what a process and its children, finished ones included, have used.

    Raises:
        BenchError: there is no such process.
    """
    try:
        total = written = rss = 0.0
        for one in (pid, *_descendants(pid)):
            total += _cpu_us(Path(f"/proc/{one}/stat"))
            written += _number(Path(f"/proc/{one}/io"), "write_bytes:")
            rss += _number(Path(f"/proc/{one}/status"), "VmRSS:") * 1024
        main_us = int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text("ascii").split()[0]) / 1000
    except OSError as error:
        raise BenchError(f"process {pid} is gone: {error}") from error
    return Usage(main_us, max(total - main_us, 0.0), int(written), int(rss))


def cpu_us(pid: int) -> float:
    """CPU time in microseconds of a process and its children, finished ones included, of any user.

    Raises:
        BenchError: there is no such process.
    """
    try:
        used = _cpu_us(Path(f"/proc/{pid}/stat"))
    except OSError as error:
        raise BenchError(f"process {pid} is gone: {error}") from error
    for child in _descendants(pid):
        with contextlib.suppress(OSError):  # it ended meanwhile; its parent has its time
            used += _cpu_us(Path(f"/proc/{child}/stat"))
    return used


def _cpu_us(stat: Path) -> float:
    """User and system time of a process, of its ended children too."""
    fields = stat.read_text("ascii", "replace").rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) * _TICK_US


def _number(file: Path, name: str) -> int:
    for line in file.read_text("ascii", "replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                parent = int((folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found, wanted = [], [pid]
    while wanted:
        wanted = [child for one in wanted for child in children.get(one, ())]
        found += wanted
    return found


def machine_busy_us() -> float:
    """CPU time that all processes of this machine have used since it started."""
    fields = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    return (sum(int(ticks) for ticks in fields[:8]) - idle) * _TICK_US


def outside_us() -> float:
    """CPU time that all processes but this one and its ended children have used: load generators do not count."""
    own = os.times()
    return machine_busy_us() - (own.user + own.system + own.children_user + own.children_system) * 1_000_000


class Child:
    """A process of the benchmark: a module of this package that reads and writes lines of JSON.

    It ends when its standard input does, so it does not outlive the benchmark.

    Args:
        module: the module's name inside ``reefknot.bench``.
        arguments: its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a module of this package
            [sys.executable, "-m", f"reefknot.bench.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, message: object) -> None:
        """Send one line; an ended process is noticed by ``hear``."""
        pipe = self._process.stdin
        if pipe is None:
            raise BenchError("the process has no standard input")
        with contextlib.suppress(BrokenPipeError):
            pipe.write(msgspec.json.encode(message) + b"\n")
            pipe.flush()

    def hear(self, kind: type[T]) -> T:
        """Wait for one line.

        Raises:
            BenchError: the process ended instead, or said something else.
        """
        pipe = self._process.stdout
        line = pipe.readline() if pipe else b""
        if not line:
            raise BenchError(f"{' '.join(map(str, self._process.args))} ended with code {self._process.wait()}")  # type: ignore[arg-type]  # args is a list here
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError as error:
            raise BenchError(f"unexpected answer {line!r}: {error}") from error


class Server:
    """A server as users run it, on a free port.

    Args:
        store_url: where it keeps its data.
        log: the file that gets its output.
        settings: environment variables, for example ``REEFKNOT_REQUEST_TIMEOUT``.
        grpc_port: the port of the gRPC API; 0 for none.
    """

    def __init__(
        self, store_url: str, log: Path, settings: Mapping[str, str] | None = None, grpc_port: int = 0
    ) -> None:
        self.port = free_port()
        self._log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REEFKNOT_", "STORE_"))}
        # In the environment: a password must not be on the command line.
        environment = inherited | {"REEFKNOT_STORE_URL": store_url} | dict(settings or {})
        ports = ["--http-port", str(self.port), "--grpc-port", str(grpc_port)]
        command = [sys.executable, "-m", "reefknot", "serve", *ports]
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own server
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        until = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise BenchError(f"the server did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return self._get("/api/ping")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def unfinished(self) -> int:
        """How many transactions in the store are not finished."""
        return self._metric("reefknot_unfinished{")

    def purged(self) -> int:
        """How many finished transactions it has deleted because they were old enough."""
        return self._metric("reefknot_purged_total ")

    def _metric(self, start: str) -> int:
        """The sum of the series that start so."""
        lines = self._get("/api/metrics")[1].decode().splitlines()
        return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start)))

    def wait_until_finished(self, seconds: float, leave: int = 0, pause: float = 0.01) -> float:
        """Wait until at most ``leave`` transactions are unfinished.

        Returns:
            The time on the monotonic clock, in seconds, when that was seen.

        Raises:
            BenchError: it is not so after ``seconds``.
        """
        until = time.monotonic() + seconds
        while (open_now := self.unfinished()) > leave:
            if time.monotonic() > until:
                raise BenchError(f"{open_now} transactions are unfinished after {seconds:.0f} s")
            time.sleep(pause)
        return time.monotonic()

    def usage(self) -> Usage:
        """What it has used so far, with its writer if that is a process."""
        return usage(self.pid)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def profiled(pid: int, seconds: float, output: Path | None) -> Iterator[None]:
    """Sample the stacks of a process with py-spy while the block runs; does nothing without ``output``.

    Args:
        pid: the process; its children are sampled as well.
        seconds: for how long.
        output: the file that gets the collapsed stacks.
    """
    if output is None:
        yield
        return
    what = ["--format", "raw", "--rate", "250", "--subprocesses", "--threads", "--native"]
    command = ["py-spy", "record", *what, "--pid", str(pid), "--duration", f"{seconds:.0f}", "--output", str(output)]
    try:
        sampler = subprocess.Popen(  # noqa: S603 - the operator asked for it
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise BenchError("--profile needs py-spy: pip install py-spy") from error
    try:
        yield
        sampler.wait(PATIENCE_SECONDS)
    finally:
        sampler.kill()
        sampler.wait()
