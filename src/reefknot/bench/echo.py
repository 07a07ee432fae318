"""The yardstick, a process of its own: an ASGI application that reads the body and answers a constant.

It runs on the same server stack with the same settings as the transaction manager, so the ratio
of the two rates says what the transactions cost, whatever the machine is worth.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn
import uvloop

from reefknot.app import BACKLOG, KEEP_ALIVE_SECONDS, listen

_BODY = b'{"dtm_result":"SUCCESS"}'
_HEADERS = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(_BODY)).encode())]


async def _echo(
    _: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


async def _main() -> None:
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(
            _echo,
            loop="none",
            http="httptools",
            ws="none",
            interface="asgi3",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    sys.stdout.buffer.write(msgspec.json.encode(listener.getsockname()[1]) + b"\n")
    sys.stdout.buffer.flush()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    uvloop.run(_main())
