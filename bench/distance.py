"""Servers a little way off: a relay in front of each that holds back every packet, as a network does."""

from __future__ import annotations

import asyncio
import multiprocessing as mp
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any
from urllib.parse import urlsplit

from bench.harness import Ends

#: One way; the clock of an event loop has no finer steps.
DISTANCE_MS = 1
_CHUNK = 65536


@contextmanager
def apart(ends: Ends) -> Iterator[Ends]:
    """The same databases, each :data:`DISTANCE_MS` away, while the block runs."""
    ours, theirs = mp.Pipe()
    urls = [urlsplit(ends.source), urlsplit(ends.target)]
    addresses = [(url.hostname, url.port) for url in urls]
    relay = mp.get_context("spawn").Process(target=_relay, args=(theirs, addresses), daemon=True)
    relay.start()
    try:
        ports: list[int] = ours.recv()
        yield Ends(*(
            url._replace(netloc=f"{url.username}@127.0.0.1:{port}").geturl()
            for url, port in zip(urls, ports, strict=True)
        ))  # fmt: skip
    finally:
        relay.terminate()
        relay.join()


def _relay(pipe: Pipe, addresses: list[tuple[str, int]]) -> None:
    asyncio.run(_serve(pipe, addresses))


async def _serve(pipe: Pipe, addresses: list[tuple[str, int]]) -> None:
    servers = [await asyncio.start_server(_to(*address), "127.0.0.1", 0) for address in addresses]
    pipe.send([server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _to(host: str, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))

    return joined


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, each packet after its time; they keep their order, since all take as long."""
    loop = asyncio.get_running_loop()
    while packet := await reader.read(_CHUNK):
        loop.call_later(DISTANCE_MS / 1000, writer.write, packet)
    loop.call_later(DISTANCE_MS / 1000, writer.close)
