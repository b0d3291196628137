"""The subprotocol ``voxhall.v1.msgpack`` with the independent packages ``msgpack`` and ``websockets``: events both ways
behind the header, audio as frames and as bytes inside events, and what can't be taken."""

import json
import struct
import uuid

import msgpack
import pytest
from client import PATIENCE_S, PUBLIC, RATE, Member
from websockets.sync.client import connect

SUBPROTOCOL = "voxhall.v1.msgpack"
EVENTS = struct.pack("<BBHI", 2, 0, 0, 0)
AUDIO = struct.pack("<BBHI", 1, 0, 0, 0)


class Packed:
    """One member; what it heard is events, and frames as pairs of header and payload."""

    def __init__(self, room: str, engine: str):
        self.socket = connect(
            f"{PUBLIC}/ws/{room}?engine={engine}&rate={RATE}", subprotocols=[SUBPROTOCOL], max_queue=None
        )
        assert self.socket.subprotocol == SUBPROTOCOL
        self.frames = []
        assert self.next("session.created")["session"]["room"] == room

    def take(self):
        """The next message: an event, or nothing for a frame."""
        message = self.socket.recv(timeout=PATIENCE_S)
        assert isinstance(message, bytes), "no text on this subprotocol"
        kind, flags, track, timestamp_ms = struct.unpack_from("<BBHI", message)
        if kind == 1:
            self.frames.append(((flags, track, timestamp_ms), message[8:]))
            return None
        assert (kind, flags, track, timestamp_ms) == (2, 0, 0, 0)
        return msgpack.unpackb(message[8:], raw=False, strict_map_key=True)

    def next(self, kind: str) -> dict:
        while True:
            event = self.take()
            if event and event["type"] == kind:
                return event

    def frame(self):
        while not self.frames:
            self.take()
        return self.frames.pop(0)

    def send(self, *events) -> None:
        self.socket.send(EVENTS + b"".join(msgpack.packb(event) for event in events))


@pytest.fixture
def room():
    return f"python-{uuid.uuid4()}"


DATA = {"null": None, "numbers": [0, -1, 255, 2**40, -(2**40), 0.5], "κ": "🎧\n\"\\", "deep": [[[{}]]], "yes": True}


def test_events_go_both_ways_and_to_members_of_other_subprotocols(room):
    one, other, plain = Packed(room, "relay"), Packed(room, "relay"), Member(room, "relay", "voxhall.v1")
    one.send({"type": "room.send", "data": DATA})
    assert other.next("room.message")["data"] == DATA
    heard = plain.next("room.message")
    assert heard["data"] == DATA
    plain.send({"type": "room.send", "data": DATA})
    event = one.next("room.message")
    assert event["data"] == DATA and event["seq"] > heard["seq"]
    assert isinstance(event["seq"], int)


def test_several_events_in_one_message_are_taken_in_order(room):
    one, other = Packed(room, "relay"), Packed(room, "relay")
    one.send(*({"type": "room.send", "data": number} for number in range(20)), {"type": "ping", "t": 7})
    assert [other.next("room.message")["data"] for _ in range(20)] == list(range(20))
    assert one.next("pong")["t"] == 7


def test_audio_comes_with_the_header_and_goes_as_frame_or_bytes(room):
    one = Packed(room, "echo")
    pcm = bytes(range(256)) * 2
    one.socket.send(AUDIO + pcm)
    assert one.frame()[1] == pcm
    one.send({"type": "input_audio_buffer.append", "audio": pcm[:100]})
    assert one.frame()[1] == pcm[:100]
    one.send({"type": "input_audio_buffer.append", "samples": [1, -2]})
    assert one.frame()[1] == struct.pack("<hh", 1, -2)


def test_what_can_not_be_taken_is_an_error_and_the_connection_stays(room):
    one = Packed(room, "relay")
    for message, code in [
        (json.dumps({"type": "ping"}), "text_not_supported"),
        (b"", "invalid_binary_header"),
        (b"\x02\0\0\0", "invalid_binary_header"),
        (struct.pack("<BBHI", 9, 0, 0, 0), "invalid_binary_header"),
        (EVENTS, "invalid_msgpack"),
        (EVENTS + b"\xc1", "invalid_msgpack"),
        (EVENTS + msgpack.packb([1]), "invalid_msgpack"),
        (EVENTS + msgpack.packb({1: 2}), "invalid_msgpack"),
        (EVENTS + msgpack.packb({"type": msgpack.ExtType(1, b"x")}), "invalid_msgpack"),
        (EVENTS + msgpack.packb({"type": "ping"})[:-1], "invalid_msgpack"),
        (EVENTS + b"\xdf\xff\xff\xff\xff", "invalid_msgpack"),
        (EVENTS + b"\x81\xa1a" * 100 + b"\x80", "nested_too_deeply"),
        (EVENTS + msgpack.packb({"type": "no.such"}), "unknown_event"),
    ]:
        one.socket.send(message)
        assert one.next("error")["error"]["code"] == code, message
    one.send({"type": "no.such", "event_id": "mine"})
    assert one.next("error")["error"]["event_id"] == "mine"
    one.send({"type": "ping", "t": "still here"})
    assert one.next("pong")["t"] == "still here"
