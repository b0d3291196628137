"""Plays one conversation of ``tests/node/conversations.json``; ``play.mjs`` beside that file says what each step means."""

import base64
import http.client
import re
import struct
import time
from urllib.parse import urlsplit

from client import ADMIN, RATE, Frame, Member, member_key
from sound import FRAME_MS, frames, noise, silence, tone

# Twice as fast as speech: quick, and still below the message rate that the server allows.
PACE_S = FRAME_MS / 1000 / 2
# Silence before the tone, as any microphone gives, so that there is a noise floor to rise above.
LEAD_MS = 200
# What may come back around the tone: the lead, and the silence that ended the turn.
PADDING_MS_MAX = 1300


def play(conversation: dict, subprotocol: str, room: str) -> None:
    scene = Scene(room, conversation["engine"], subprotocol)
    try:
        for number, step in enumerate(conversation["steps"], 1):
            try:
                scene.act(step)
            except AssertionError as fault:
                raise AssertionError(f"step {number} {step}: {fault}") from fault
    finally:
        scene.end()


class Scene:
    def __init__(self, room: str, engine: str, subprotocol: str):
        self.room, self.engine, self.subprotocol = room, engine, subprotocol
        self.members: dict[str, Member] = {}
        self.numbers: dict[str, str | None] = {}
        self.last_sent: list[bytes] = []
        self._join("a")

    def act(self, step: dict) -> None:
        verb = next(key for key in step if key in VERBS)
        VERBS[verb](self, self.members[step.get("as", "a")], step)

    def end(self) -> None:
        for member in self.members.values():
            member.leave()

    def _join(self, name: str) -> None:
        self.members[name] = Member(self.room, self.engine, self.subprotocol)
        self.numbers[name] = self.members[name].number

    def join(self, _me: Member, step: dict) -> None:
        self._join(step["join"])

    def send(self, me: Member, step: dict) -> None:
        event = step["send"]
        to = event.get("to", "")
        me.send({**event, "to": int(self.numbers[to[1:]])} if to.startswith("$") else event)

    def text(self, me: Member, step: dict) -> None:
        me.send_raw(step["text"])

    def send_frames(self, me: Member, step: dict) -> None:
        self.last_sent = [noise(size, step.get("seed", 7) + i) for i, size in enumerate(step["frames"])]
        for payload in self.last_sent:
            me.send_raw(payload)

    def speak(self, me: Member, step: dict) -> None:
        me.utterance = tone(step["speak"], RATE)
        for member in self.members.values():
            member.heard_from = len(member.frames)
        lead = LEAD_MS if step["silence"] > 0 else 0
        for frame in frames(silence(lead, RATE) + me.utterance + silence(step["silence"], RATE), RATE):
            say(me, frame, step.get("by", "binary"))
            time.sleep(PACE_S)

    def expect(self, me: Member, step: dict) -> None:
        event = me.next(step["expect"])
        check(event, step)
        if "member" in step:
            assert member_key(event.get("from", event.get("member"))) == self.numbers[step["member"]]

    def expect_all(self, me: Member, step: dict) -> None:
        me.all(step["expectAll"])

    def last(self, me: Member, step: dict) -> None:
        check(me.of_type(step["last"])[-1], step)

    def never(self, me: Member, step: dict) -> None:
        assert me.of_type(step["never"]) == []

    def count(self, me: Member, step: dict) -> None:
        assert len(me.of_type(step["count"])) == step["is"]

    def transcript(self, me: Member, step: dict) -> None:
        assert re.search(step["transcript"], transcript_of(me))

    def hears(self, me: Member, step: dict) -> None:
        what = step["hears"]
        if what == "frames":
            self._hears_frames(me, step.get("track"))
            return
        if what == "something":
            me.until(lambda: len(me.frames) > me.heard_from, "a frame of sound")
            return
        got = me.frames[me.heard_from :]
        heard = b"".join(frame.payload for frame in got)
        spoken = self.members[step.get("from", step.get("as", "a"))].utterance
        if what == "less than the utterance":
            assert len(heard) < len(spoken)
            return
        assert what == "utterance"
        assert spoken in heard, f"all {len(spoken)} bytes of the tone are within the {len(heard)} that came"
        assert len(heard) <= len(spoken) + PADDING_MS_MAX * RATE // 1000 * 2
        if self.subprotocol == "voxhall.v1":
            check_headers(got, "0")

    def _hears_frames(self, me: Member, track: str | None) -> None:
        end = me.heard_from + len(self.last_sent)
        me.until(lambda: len(me.frames) >= end, f"{len(self.last_sent)} frames")
        got = me.frames[me.heard_from :]
        assert [frame.payload for frame in got] == self.last_sent
        if self.subprotocol == "voxhall.v1":
            check_headers(got, self.numbers[track] if track else None)
        me.heard_from = len(me.frames)

    def heard_only(self, me: Member, step: dict) -> None:
        assert [frame.payload for frame in me.frames] == self.last_sent, "nothing but what the other sent"
        if self.subprotocol == "voxhall.v1":
            assert {str(frame.header.track) for frame in me.frames} == {self.numbers[step["heardOnly"]]}

    def leave(self, me: Member, step: dict) -> None:
        me.leave()
        del self.members[step.get("as", "a")]

    def admin(self, _me: Member, step: dict) -> None:
        status, _ = get(ADMIN + step["admin"].replace("$room", self.room))
        assert status == step["status"]


VERBS = {
    "join": Scene.join,
    "send": Scene.send,
    "text": Scene.text,
    "frames": Scene.send_frames,
    "speak": Scene.speak,
    "expect": Scene.expect,
    "expectAll": Scene.expect_all,
    "last": Scene.last,
    "never": Scene.never,
    "count": Scene.count,
    "transcript": Scene.transcript,
    "hears": Scene.hears,
    "heardOnly": Scene.heard_only,
    "leave": Scene.leave,
    "admin": Scene.admin,
}


def say(me: Member, frame: bytes, by: str) -> None:
    if by == "binary":
        me.send_raw(frame)
    elif by == "base64":
        me.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(frame).decode()})
    else:
        samples = struct.unpack(f"<{len(frame) // 2}h", frame)
        me.send({"type": "input_audio_buffer.append", "samples": samples})


def check(event: dict, wanted: dict) -> None:
    for path, value in wanted.get("with", {}).items():
        assert at(event, path) == value, f"{path} in {event}"
    for path in wanted.get("has", []):
        assert at(event, path), f"{path} is missing in {event}"


def at(event, path: str):
    for key in path.split("."):
        event = event.get(key) if isinstance(event, dict) else None
    return event


def transcript_of(me: Member) -> str:
    begin = max(i for i, event in enumerate(me.events) if event["type"] == "response.created")
    since = me.events[begin:]
    deltas = "".join(event["delta"] for event in since if event["type"] == "response.output_audio_transcript.delta")
    done = [event["transcript"] for event in since if event["type"] == "response.output_audio_transcript.done"]
    assert done == [deltas], "the deltas add up to the transcript"
    return deltas


def check_headers(got: list[Frame], track: str | None) -> None:
    """The eight bytes before each frame. On a busy machine a spurt may break in two; each begins at 0 ms."""
    headers = [frame.header for frame in got]
    assert {header.kind for header in headers} == {1}, "every frame is sound"
    if track is not None:
        assert {str(header.track) for header in headers} == {track}
    assert headers[0].flags & 1, "the first frame of a spurt says so"
    before = 0
    for header in headers:
        if header.flags & 1:
            assert header.timestamp_ms == 0, "a spurt begins at 0 ms"
        assert header.flags & 1 or header.timestamp_ms >= before, "time does not run backwards"
        before = header.timestamp_ms


def get(url: str, headers: dict | None = None) -> tuple[int, dict]:
    """Status and headers of a plain GET."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=15)
    try:
        connection.request("GET", parts.path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()
