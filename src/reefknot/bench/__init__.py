"""Measures a running server from other processes: rate, latency, CPU, bytes written, memory, recovery.

The server, the business service and the load generator are processes of their own on loopback, so
the figures are those of the server as users run it. ``benchmarks/README.md`` describes the method.
"""

from __future__ import annotations


def main(args: list[str]) -> int:
    """Run the benchmark that the words ask for and return the exit code."""
    from reefknot.bench.command import run  # noqa: PLC0415 - the child processes need none of it

    return run(args)
