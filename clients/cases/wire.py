"""The server's end of one connection, down to the bytes, so that it can do what no library lets it do."""

import asyncio
import base64
import hashlib
import json
import socket
import struct
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pack import pack, unpack

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SPOKEN = ("voxhall.v1.msgpack", "voxhall.v1.plain", "voxhall.v1")
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Request:
    """The head of a request."""

    def __init__(self, head: str):
        first, *lines = head.split("\r\n")
        self.method, target, _ = first.split(" ", 2)
        self.headers = {}
        for line in filter(None, lines):
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        parts = urlsplit(target)
        self.path = unquote(parts.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        offered = [word.strip() for word in self.headers.get("sec-websocket-protocol", "").split(",")]
        self.subprotocol = next((word for word in offered if word in SPOKEN), "")
        self.transport = "websocket" if "upgrade" in self.headers.get("connection", "").lower() else "sse"


class Wire:
    """What was asked for, and both directions of the connection."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.request, self.reader, self.writer = request, reader, writer
        self.answered = False
        self.over = False
        # A WebSocket was agreed on, and its frames are still read.
        self.spoke_websocket = False
        self.said_goodbye = False
        self.closed_with: int | None = None
        self.pongs: list[bytes] = []

    # What a server ought to do.

    async def accept(self) -> None:
        """101, or the beginning of the stream; once."""
        if self.answered:
            return
        self.answered = True
        if self.request.transport == "sse":
            await self.put(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
                b"access-control-allow-origin: *\r\nconnection: close\r\n\r\n"
            )
            return
        self.spoke_websocket = True
        key = self.request.headers["sec-websocket-key"]
        token = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        named = self.request.subprotocol
        chosen = f"sec-websocket-protocol: {named}\r\n" if named else ""
        await self.put(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-accept: {token}\r\n{chosen}\r\n".encode()
        )

    async def refuse(self, status: int, headers: dict[str, str], body: str = "") -> None:
        self.answered = self.over = True
        lines = [f"HTTP/1.1 {status} Refused", f"content-length: {len(body)}", "connection: close"]
        lines += ["content-type: application/problem+json", "access-control-allow-origin: *"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.put(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        self.writer.close()

    async def send(self, events: list[dict[str, Any]]) -> None:
        """Events in the form that was agreed on; those of a batch in one message, where there are batches."""
        await self.accept()
        texts = [json.dumps(event, separators=(",", ":")) for event in events]
        if self.request.transport == "sse":
            for event, text in zip(events, texts):
                number = f"id: {event['seq']}\n" if "seq" in event else ""
                await self.put(f"{number}data: {text}\n\n".encode())
        elif self.request.subprotocol == "voxhall.v1.msgpack":
            for event in events:
                await self.frame(BINARY, header(2) + pack(event))
        elif self.request.subprotocol == "voxhall.v1":
            await self.frame(TEXT, "\n".join(texts).encode())
        else:
            for text in texts:
                await self.frame(TEXT, text.encode())

    async def frame(self, opcode: int, payload: bytes, final: bool = True) -> None:
        await self.put(frame(opcode, payload, final))

    async def put(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            self.over = True

    async def message(self) -> tuple[int, bytes] | None:
        """The client's next message or control frame; nothing when it has gone."""
        kind, data = 0, b""
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                size = second & 127
                if size == 126:
                    (size,) = struct.unpack(">H", await self.reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
                mask = await self.reader.readexactly(4) if second & 128 else bytes(4)
                masked = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.over = True
                return None
            payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(masked))
            if first & 15 >= CLOSE:
                return first & 15, payload
            kind, data = kind or first & 15, data + payload
            if first & 128:
                return kind, data

    def ponged(self, payload: bytes) -> bool:
        return payload in self.pongs

    async def goodbye(self, payload: bytes) -> None:
        """A close frame, or what a stream of events has in its place."""
        if self.request.transport == "websocket":
            await self.frame(CLOSE, payload)
            return
        if payload:
            said = {"code": struct.unpack(">H", payload[:2])[0], "reason": payload[2:].decode()}
            await self.put(f"event: close\ndata: {json.dumps(said)}\n\n".encode())
        self.over = True
        self.writer.close()

    # What it ought not to do.

    def cut(self, how: str) -> None:
        """Ends the connection without a word: `rst`, or `fin`."""
        self.answered = self.over = True
        if how == "rst":
            gone = self.writer.get_extra_info("socket")
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


def header(kind: int, flags: int = 0, track: int = 0, timestamp_ms: int = 0) -> bytes:
    """The eight bytes before a binary message's payload."""
    return struct.pack("<BBHI", kind, flags, track, timestamp_ms)


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    first = opcode | (128 if final else 0)
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 65536:
        return bytes([first, 126]) + struct.pack(">H", len(payload)) + payload
    return bytes([first, 127]) + struct.pack(">Q", len(payload)) + payload


def events_of(subprotocol: str, opcode: int, data: bytes) -> list[dict[str, Any]]:
    """The events, and audio as `{"audio": hex}`, in a client's message."""
    if opcode == TEXT:
        return [json.loads(line) for line in data.decode().split("\n") if line.strip()]
    if subprotocol == "voxhall.v1.msgpack":
        if data[0] == 2:
            return [unpack(data[8:])]
        data = data[8:]
    return [{"audio": data.hex()}]


def events_of_post(body: bytes) -> list[dict[str, Any]]:
    """The events in the body of a POST: one, a list of them, or one on each line."""
    try:
        whole = json.loads(body)
    except ValueError:
        return [json.loads(line) for line in body.decode().split("\n") if line.strip()]
    return whole if isinstance(whole, list) else [whole]
