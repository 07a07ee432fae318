"""The null business service over gRPC, a process of its own: an empty answer to every method.

It tells its port in one line on its standard output and ends with its input.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio
import msgspec
import uvloop


class _AnyMethod(grpc.GenericRpcHandler):
    """Takes every method as a unary one."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(_answer)


async def _answer(_: bytes, __: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return b""


async def _main() -> None:
    server = grpc.aio.server(handlers=[_AnyMethod()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.buffer.write(msgspec.json.encode(port) + b"\n")
    sys.stdout.buffer.flush()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(_main())
