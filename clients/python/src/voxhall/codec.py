"""Messages of each subprotocol, and the events and audio in them."""

from __future__ import annotations

import base64
import importlib
import json
import struct
from dataclasses import dataclass
from typing import Any, Union

from .errors import Unreadable

Event = dict[str, Any]
"""An event: an object with at least a `type`."""

V1 = "voxhall.v1"
PLAIN = "voxhall.v1.plain"
MSGPACK = "voxhall.v1.msgpack"

_HEADER = struct.Struct("<BBHI")
_KIND_AUDIO = 1
_KIND_EVENTS = 2


@dataclass(frozen=True)
class Audio:
    """A piece of audio. Without a header (`voxhall.v1.plain`) only the payload is known."""

    payload: bytes
    first: bool = False
    """The first of a spurt."""
    last: bool = False
    """The last of one, where the server knows that."""
    track: int = 0
    """Whose it is: 0 is the engine, otherwise a member's number."""
    timestamp_ms: int = 0
    """Since the spurt began."""


Item = Union[Event, Audio]

# What `client_seq` takes in an event, at most.
NUMBER_BYTES = 40


def size_of(message: str | bytes) -> int:
    """How many bytes a message has on its way."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())


def _event(value: object) -> Event:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Unreadable("an event without a type")
    return value


def _json(text: str) -> Event:
    try:
        return _event(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {error}") from None


def _text(event: Event) -> str:
    text = json.dumps(event, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # Half a surrogate is a character to Python, and to nobody else.
    text.encode()
    return text


def _audio(flags: int, track: int, timestamp_ms: int, payload: bytes) -> Audio:
    return Audio(payload, bool(flags & 1), bool(flags & 2), track, timestamp_ms)


def _with_audio(event: Event) -> list[Item]:
    """An event, and the audio in it: where no bytes go, it comes as text."""
    if event["type"] != "response.output_audio.delta":
        return [event]
    try:
        return [event, Audio(base64.b64decode(event["delta"], validate=True))]
    except (KeyError, TypeError, ValueError):
        raise Unreadable("audio that is no base64") from None


class Codec:
    """JSON, one event a message; audio bare. That is `voxhall.v1.plain`, and what is spoken without a subprotocol."""

    def read(self, message: str | bytes) -> list[Item]:
        if isinstance(message, bytes):
            return [Audio(message)]
        # Empty is a sign of life, on a stream of events.
        return _with_audio(_json(message)) if message else []

    def event(self, event: Event) -> str | bytes:
        return _text(event)

    def as_sent(self, event: Event, bytes_max: int | None = None) -> Event:
        """A copy of what will travel, which nobody changes any more. `TypeError` or `ValueError` for what can't: not as JSON, which
        every event has to be for the fallback, or not in this subprotocol, or not in so many bytes."""
        try:
            copy: Event = json.loads(_text(event))
            size = max(size_of(self.event(copy)), size_of(_text(copy))) + NUMBER_BYTES
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        except OverflowError as error:
            raise ValueError(str(error)) from None
        if bytes_max is not None and size > bytes_max:
            raise ValueError(f"{size} bytes, and the server takes {bytes_max}")
        return copy

    def audio(self, payload: bytes) -> str | bytes:
        return payload


class Batches(Codec):
    """`voxhall.v1`: events by the line, and a header before each payload from the server."""

    def read(self, message: str | bytes) -> list[Item]:
        if isinstance(message, str):
            return [_json(line) for line in message.split("\n") if line.strip()]
        if len(message) < _HEADER.size:
            raise Unreadable("a binary message without its header")
        kind, flags, track, timestamp_ms = _HEADER.unpack_from(message)
        return self._read(kind, _audio(flags, track, timestamp_ms, message[_HEADER.size :]))

    def _read(self, kind: int, piece: Audio) -> list[Item]:
        # A kind of a later release is none of ours.
        return [piece] if kind == _KIND_AUDIO else []


class Packed(Batches):
    """`voxhall.v1.msgpack`: events as MessagePack, with the header both ways."""

    def __init__(self) -> None:
        try:
            self._msgpack: Any = importlib.import_module("msgpack")
        except ImportError:
            raise RuntimeError("MessagePack needs the package msgpack: pip install 'voxhall[msgpack]'") from None

    def _read(self, kind: int, piece: Audio) -> list[Item]:
        if kind != _KIND_EVENTS:
            return super()._read(kind, piece)
        unpacker = self._msgpack.Unpacker(max_buffer_size=0)
        unpacker.feed(piece.payload)
        events: list[Item] = []
        taken = 0
        try:
            while taken < len(piece.payload):
                events.append(_event(unpacker.unpack()))
                taken = unpacker.tell()
        except (ValueError, self._msgpack.UnpackException) as error:
            raise Unreadable(f"no MessagePack: {error}") from None
        return events

    def event(self, event: Event) -> str | bytes:
        packed: bytes = self._msgpack.packb(event)
        return _HEADER.pack(_KIND_EVENTS, 0, 0, 0) + packed

    def audio(self, payload: bytes) -> str | bytes:
        return _HEADER.pack(_KIND_AUDIO, 0, 0, 0) + payload


def codec_of(subprotocol: str) -> Codec:
    """The codec of a subprotocol that was agreed on."""
    if subprotocol == MSGPACK:
        return Packed()
    return Batches() if subprotocol == V1 else Codec()


def append_event(payload: bytes) -> Event:
    """Audio as an event, for a link that carries no bytes."""
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(payload).decode()}
