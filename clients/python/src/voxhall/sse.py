"""The fallback: events by `text/event-stream`, and an uplink of requests. Plain HTTP/1.1 over asyncio's streams."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Mapping
from urllib.parse import urlsplit

from .errors import LinkClosed, LinkFailed, LinkRefused, TooBig
from .links import Address, seconds_of, was_reached

# More of an answer is not read where it is no stream.
BODY_BYTES_MAX = 65536
# A request that failed on the way is made so often, before the whole connection is given up.
ATTEMPTS = 3


class Answer:
    """The head of an answer, and its body as it comes."""

    def __init__(self, status: int, headers: dict[str, str], reader: asyncio.StreamReader):
        self.status, self.headers = status, headers
        self._reader = reader
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        self._left = int(length) if length is not None and not self._chunked else None

    async def read(self) -> bytes:
        """More of the body; nothing at its end."""
        if self._chunked:
            size = int((await self._reader.readline()).split(b";")[0].strip() or b"0", 16)
            piece = await self._reader.readexactly(size)
            await self._reader.readexactly(2)
            return piece
        if self._left is None:
            return await self._reader.read(65536)
        piece = await self._reader.read(min(65536, self._left)) if self._left else b""
        self._left -= len(piece)
        return piece


async def ask(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, tls: ssl.SSLContext | None
) -> tuple[Answer, asyncio.StreamWriter]:
    """Sends a request on a connection of its own; returns with the head of the answer."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    context = (tls or ssl.create_default_context()) if secure else None
    port = parts.port or (443 if secure else 80)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context, limit=1 << 20)
    except OSError as error:
        raise LinkFailed(str(error), reached=was_reached(error)) from None
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [] if body is None else [f"Content-Length: {len(body)}", "Content-Type: application/json"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        await writer.drain()
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in rest if line)
        answered = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return Answer(int(first.split(" ")[1]), answered, reader), writer
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
        writer.close()
        raise LinkFailed(str(error) or "no answer", reached=True) from None
    except BaseException:
        writer.close()
        raise


async def is_ready(address: Address, tls: ssl.SSLContext | None) -> bool:
    """Whether the server says that it is ready, to whoever asks it without a WebSocket."""
    try:
        answer, writer = await ask("GET", address.ready_url, {}, None, tls)
    except LinkFailed:
        return False
    writer.close()
    return answer.status == 200


async def _whole(answer: Answer) -> bytes:
    body = b""
    while len(body) < BODY_BYTES_MAX and (piece := await answer.read()):
        body += piece
    return body


class EventStreamLink:
    """A stream of events, one a message, and a request for each that goes the other way, one after the other."""

    subprotocol = ""
    takes_bytes = False

    def __init__(
        self,
        answer: Answer,
        writer: asyncio.StreamWriter,
        address: Address,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
    ):
        self._answer, self._writer = answer, writer
        self._address, self._headers, self._tls = address, dict(headers), tls
        self._buffer = b""
        self._kind = ""
        self._data: list[str] = []
        self._id = ""

    @classmethod
    async def open(
        cls, address: Address, query: Mapping[str, str], headers: Mapping[str, str], tls: ssl.SSLContext | None
    ) -> EventStreamLink:
        wanted = {**headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        answer, writer = await ask("GET", address.url("sse", query), wanted, None, tls)
        try:
            if answer.status != 200:
                reason = (await _whole(answer)).decode(errors="replace")
                raise LinkRefused(answer.status, seconds_of(answer.headers.get("retry-after")), reason)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                raise LinkFailed("the answer is no stream of events", reached=True)
        except (OSError, EOFError, ValueError) as error:
            writer.close()
            raise LinkFailed(str(error), reached=True) from None
        except BaseException:
            writer.close()
            raise
        return cls(answer, writer, address, headers, tls)

    async def receive(self) -> str | bytes:
        try:
            while True:
                line, found, rest = self._buffer.partition(b"\n")
                if not found:
                    piece = await self._answer.read()
                    if not piece:
                        raise LinkClosed(1006, "the stream has ended")
                    self._buffer += piece
                    continue
                self._buffer = rest
                if (message := self._line(line.decode().rstrip("\r"))) is not None:
                    return message
        except (OSError, EOFError, ValueError) as error:
            raise LinkClosed(1006, str(error)) from None

    def _line(self, line: str) -> str | None:
        """Takes a line; an event is whole at the empty one."""
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        elif name == "event":
            self._kind = value.removeprefix(" ")
        if line:
            # A comment is an empty message: it says that the server is there.
            return "" if line.startswith(":") else None
        message, kind = "\n".join(self._data), self._kind
        self._data, self._kind = [], ""
        if kind == "close":
            said = json.loads(message)
            raise LinkClosed(int(said.get("code", 1006)), str(said.get("reason", "")))
        return message or None

    def identify(self, connection: str) -> None:
        self._id = connection

    def renew(self, token: str) -> None:
        # Each request is looked at by itself.
        self._headers = {**self._headers, "Authorization": f"Bearer {token}"}

    async def send(self, messages: list[str | bytes]) -> int | None:
        """What was sent and may not have arrived is sent again: its numbers tell the server."""
        body = b"\n".join(one.encode() if isinstance(one, str) else one for one in messages)
        try:
            return await self._deliver(body)
        except TooBig:
            if len(messages) == 1:
                raise TooBig(messages[0]) from None
        half = len(messages) // 2
        await self.send(messages[:half])
        return await self.send(messages[half:])

    async def _deliver(self, body: bytes) -> int | None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._post(body)
            except (LinkFailed, OSError, EOFError, ValueError) as error:
                if attempt == ATTEMPTS:
                    self.abort()
                    raise LinkClosed(1006, f"the uplink: {error}") from None
        return None

    async def _post(self, body: bytes) -> int | None:
        url = self._address.url("sse", {"id": self._id})
        answer, writer = await ask("POST", url, self._headers, body, self._tls)
        try:
            said = await _whole(answer)
        finally:
            writer.close()
        if answer.status == 413:
            raise TooBig(body)
        if answer.status >= 400:
            self.abort()
            reason = f"the uplink was refused with {answer.status}"
            raise LinkClosed(1006, reason, seconds_of(answer.headers.get("retry-after")))
        taken = json.loads(said).get("client_seq") if said.startswith(b"{") else None
        return taken if isinstance(taken, int) else None

    async def close(self, code: int, reason: str = "") -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()
