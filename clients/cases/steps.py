"""What the server of the cases does to its clients, well-behaved or not."""

import asyncio
import json
import struct
from typing import Any

from match import expand, message, numbers
from wire import BINARY, PING, TEXT, Wire, frame, header


async def misbehave(wire: Wire, verb: str, value: Any, number: int) -> None:
    """Does one step; `number` counts the connections from 0."""
    await VERBS[verb](wire, value, number)


async def welcome(wire: Wire, value: dict[str, Any], number: int) -> None:
    """`session.created`, with the token `token-<connection>`."""
    resume = {"token": f"token-{number + 1}", "epoch": "e1", "seq": 0, **value}
    limits = {"members_per_room_max": 64, **resume.pop("limits", {})}
    session = {"id": f"conn_{number + 1}", "room": "room", "engine": "relay", "member": 1}
    event = {"type": "session.created", "event_id": f"created_{number + 1}"}
    await wire.send([{**event, "session": {**session, "resume": resume, "limits": limits}}])


async def restored(wire: Wire, value: dict[str, Any], _: int) -> None:
    usual = {"recovered": True, "state": {}, "missed": 0, "epoch": "e1"}
    await wire.send([{"type": "session.restored", "event_id": "restored", **usual, **value}])


async def say(wire: Wire, value: str, _: int) -> None:
    for seq in numbers(value):
        await wire.send([message(seq)])


async def send(wire: Wire, value: Any, _: int) -> None:
    """One event, or a list of them together."""
    await wire.send(expand(value if isinstance(value, list) else [value]))


async def audio(wire: Wire, value: dict[str, Any], _: int) -> None:
    payload = bytes.fromhex(value["hex"])
    bare = wire.request.subprotocol in ("", "voxhall.v1.plain")
    front = b"" if bare else header(1, value.get("flags", 0), value.get("track", 0), value.get("timestamp_ms", 0))
    await wire.accept()
    await wire.frame(BINARY, front + payload)


async def accept(wire: Wire, _value: bool, _: int) -> None:
    await wire.accept()


async def refuse(wire: Wire, value: dict[str, Any], _: int) -> None:
    await wire.refuse(value["status"], value.get("headers", {}), json.dumps(value.get("body", {})))


async def close(wire: Wire, value: dict[str, Any], _: int) -> None:
    """A close frame with its code, or without one; then the end."""
    code, reason = value.get("code"), value.get("reason", "")
    await wire.accept()
    wire.said_goodbye = True
    await wire.goodbye(struct.pack(">H", code) + reason.encode() if code else b"")


async def cut(wire: Wire, value: str, _: int) -> None:
    wire.cut(value)


async def text(wire: Wire, value: str, _: int) -> None:
    """A text message, whatever it says; on a stream of events, a line of data."""
    await wire.accept()
    if wire.request.transport == "sse":
        await wire.put(f"data: {value}\n\n".encode())
    else:
        await wire.frame(TEXT, value.encode())


async def binary(wire: Wire, value: str, _: int) -> None:
    await wire.accept()
    await wire.frame(BINARY, bytes.fromhex(value))


async def raw(wire: Wire, value: str, _: int) -> None:
    """Bytes on the bare connection: hex, or `text:` and what follows."""
    wire.answered = True
    await wire.put(value[5:].encode() if value.startswith("text:") else bytes.fromhex(value))


async def half(wire: Wire, value: dict[str, Any], _: int) -> None:
    """The first half of an event's bytes, which are all that ever comes of it."""
    await wire.accept()
    words = json.dumps(value).encode()
    whole = b"data: " + words + b"\n\n" if wire.request.transport == "sse" else frame(TEXT, words)
    await wire.put(whole[: len(whole) // 2])


async def pieces(wire: Wire, value: dict[str, Any], _: int) -> None:
    """An event in a frame for each byte or so, pings between them, and each byte on its way by itself."""
    words = json.dumps(value).encode()
    parts = [words[at : at + 7] for at in range(0, len(words), 7)]
    for at, part in enumerate(parts):
        whole = frame(TEXT if at == 0 else 0, part, at == len(parts) - 1) + frame(PING, b"between")
        for byte in whole:
            await wire.put(bytes([byte]))
            await asyncio.sleep(0)


async def huge(wire: Wire, value: dict[str, Any], _: int) -> None:
    """A message whose data is this many bytes."""
    await wire.send([{**message(value["seq"]), "data": "x" * value["bytes"]}])


async def silence(wire: Wire, _value: bool, _: int) -> None:
    """Neither reads nor answers any more, until the client has given up."""
    wire.answered = True
    wire.spoke_websocket = False


VERBS = {
    "welcome": welcome,
    "restored": restored,
    "say": say,
    "send": send,
    "audio": audio,
    "accept": accept,
    "refuse": refuse,
    "close": close,
    "cut": cut,
    "text": text,
    "binary": binary,
    "raw": raw,
    "half": half,
    "pieces": pieces,
    "huge": huge,
    "silence": silence,
}
