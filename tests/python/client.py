"""One member of a room, through the independent WebSocket client ``websockets`` with its default settings
(it offers permessage-deflate and pings by itself). Keeps every event and frame in the order of arrival."""

import base64
import json
import os
import struct
import time
from typing import NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

RATE = 16000
PATIENCE_S = 15


def required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"set {name} to the address of a running server")
    return value.rstrip("/")


PUBLIC = required("VOXHALL_URL")
PUBLIC_HTTP = "http" + PUBLIC.removeprefix("ws")
ADMIN = required("VOXHALL_ADMIN")


class Header(NamedTuple):
    """The eight bytes before a frame of voxhall.v1."""

    kind: int
    flags: int
    track: int
    timestamp_ms: int


class Frame(NamedTuple):
    header: Header | None
    payload: bytes


class Member:
    def __init__(self, room: str, engine: str, subprotocol: str):
        self.subprotocol = subprotocol
        self.events: list[dict] = []
        self.frames: list[Frame] = []
        self.cursor = 0
        self.heard_from = 0
        self.utterance = b""
        self.socket = connect(
            f"{PUBLIC}/ws/{room}?engine={engine}&format=pcm16&rate={RATE}",
            subprotocols=[subprotocol] if subprotocol else None,
            max_queue=None,
        )
        assert (self.socket.subprotocol or "") == subprotocol
        self.until(lambda: self.events, "the first event")
        first = self.events[0]
        assert first["type"] == "session.created"
        assert first["session"]["id"], "a session has an id"
        assert first["session"]["room"] == room
        assert first["session"]["engine"] == engine
        assert not self.frames, "no sound before the welcome"
        self.cursor = 1
        self.number = member_key(first["session"]["member"])

    def until(self, check, what: str):
        """The first truthy value of ``check``, which is asked again whenever something arrives."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := check()):
            try:
                self._take(self.socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"waited in vain for {what}; {self._story()}") from None
            except ConnectionClosed as closed:
                raise AssertionError(f"{closed} while waiting for {what}; {self._story()}") from None
        return found

    def next(self, kind: str) -> dict:
        """The next event of this type after those already taken."""

        def find():
            return next((i + 1 for i in range(self.cursor, len(self.events)) if self.events[i]["type"] == kind), 0)

        self.cursor = self.until(find, kind)
        return self.events[self.cursor - 1]

    def all(self, kinds: list[str]) -> None:
        """All of these, in any order."""
        start, furthest = self.cursor, self.cursor
        for kind in kinds:
            self.cursor = start
            self.next(kind)
            furthest = max(furthest, self.cursor)
        self.cursor = furthest

    def of_type(self, kind: str) -> list[dict]:
        return [event for event in self.events if event["type"] == kind]

    def send(self, event: dict) -> None:
        self.socket.send(json.dumps(event))

    def send_raw(self, data: str | bytes) -> None:
        self.socket.send(data)

    def leave(self) -> None:
        self.socket.close(1000, "goodbye")

    def _take(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            self._take_frame(data)
            return
        lines = [line for line in data.split("\n") if line.strip()] if self.subprotocol == "voxhall.v1" else [data]
        for line in lines:
            event = json.loads(line)
            assert isinstance(event["type"], str) and isinstance(event["event_id"], str), line
            self.events.append(event)
            if event["type"] == "response.output_audio.delta":
                self.frames.append(Frame(None, base64.b64decode(event["delta"])))

    def _take_frame(self, data: bytes) -> None:
        if self.subprotocol == "voxhall.v1":
            self.frames.append(Frame(Header(*struct.unpack_from("<BBHI", data)), data[8:]))
        else:
            self.frames.append(Frame(None, data))

    def _story(self) -> str:
        return f"came so far: {', '.join(event['type'] for event in self.events)}; {len(self.frames)} frames"


def member_key(member) -> str | None:
    """A member is named by its number, or by an object that has one."""
    if isinstance(member, dict):
        return member_key(member.get("number", member.get("id")))
    return None if member is None else str(member)
