"""The load generator over gRPC, a process of its own: takes a ``GrpcLoad`` line, answers with one ``Sent``.

Each client submits one transaction after the other; all of them share one channel.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import grpc
import grpc.aio
import msgspec
import uvloop

from reefknot.bench.load import ANSWER_SECONDS, Sent
from reefknot.bench.workloads import GID
from reefknot.clock import SystemClock
from reefknot.ids import gid_maker

_SUBMIT = "/dtmgimp.Dtm/Submit"


class GrpcLoad(msgspec.Struct, frozen=True):
    """What to send for ``seconds``: a submit in which ``GID`` stands for the gid."""

    port: int
    request: bytes
    clients: int
    seconds: float


async def _send_all(load: GrpcLoad) -> Sent:
    new_gid = gid_maker(SystemClock(), random.Random().getrandbits)  # noqa: S311 - unique is enough
    latencies: list[float] = []
    refused: list[str] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{load.port}") as channel:
        submit: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_SUBMIT)
        await channel.channel_ready()
        started, cpu = time.monotonic(), time.process_time()

        async def run() -> None:
            while time.monotonic() < started + load.seconds:
                began = time.perf_counter()
                try:
                    await submit(load.request.replace(GID.encode(), new_gid().encode()), timeout=ANSWER_SECONDS)
                except grpc.aio.AioRpcError as error:
                    refused.append(f"{error.code().name} {error.details()}")
                else:
                    latencies.append(time.perf_counter() - began)

        await asyncio.gather(*(run() for _ in range(load.clients)))
    ordered = sorted(latencies) or [0.0]
    return Sent(
        started=started,
        ended=time.monotonic(),
        transactions=len(latencies),
        failures=len(refused),
        first_failure=refused[0] if refused else "",
        p50_ms=ordered[len(ordered) // 2] * 1000,
        p99_ms=ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)] * 1000,
        cpu_us=(time.process_time() - cpu) * 1_000_000,
    )


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=GrpcLoad)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_send_all(asked))) + b"\n")
