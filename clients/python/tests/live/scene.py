"""What the tests against a server share."""

import asyncio
import os
import uuid
from typing import Any, AsyncIterator, Awaitable, Callable

import voxhall

URL = os.environ["VOXHALL_URL"]
PATIENCE_S = 30


def fresh_room() -> str:
    return f"room-{uuid.uuid4().hex}"


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Runs it, with an end."""
    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))


async def until(events: AsyncIterator[voxhall.Event], kind: str, **wanted: Any) -> voxhall.Event:
    """The next event of this type that has these fields."""
    async for event in events:
        if event["type"] == kind and all(event.get(key) == value for key, value in wanted.items()):
            return event
    raise AssertionError(f"the events ended before {kind}")


class Cutter:
    """Stands between a client and a server, which may change, until it is told to cut."""

    def __init__(self, port: int | None = None) -> None:
        self.host, _, given = URL.removeprefix("ws://").partition(":")
        self.port = port or int(given)
        self.open = True
        # What clients say gets lost on the way.
        self.swallows = False
        self.pairs: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Cutter":
        self.server = await asyncio.start_server(self._enter, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        self.cut()

    def cut(self) -> None:
        """Every connection ends without a word."""
        for writer in self.pairs:
            writer.transport.abort()
        self.pairs.clear()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        self.pairs += [writer, far_writer]
        await asyncio.gather(
            _carry(reader, far_writer, lambda: self.swallows), _carry(far_reader, writer, lambda: False)
        )


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallows: Callable[[], bool]
) -> None:
    try:
        while piece := await reader.read(65536):
            if swallows():
                continue
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    writer.close()
