"""A room as server-sent events with the independent client ``httpx-sse``: the log of a member on a WebSocket, what it
posts, and what it has missed."""

import json
import os
import ssl
import uuid
from contextlib import contextmanager

import httpx
import pytest
from client import PATIENCE_S, PUBLIC_HTTP, Member
from httpx_sse import connect_sse


@pytest.fixture
def room():
    return f"python-{uuid.uuid4()}"


@pytest.fixture
def http():
    # It looks where OpenSSL does.
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    with httpx.Client(base_url=PUBLIC_HTTP, verify=context, timeout=PATIENCE_S) as client:
        yield client


@contextmanager
def stream(http, room, **options):
    """The events of a stream, one after the other."""
    headers = {"Last-Event-ID": str(options.pop("after"))} if "after" in options else {}
    with connect_sse(http, "GET", f"/sse/{room}", params={"engine": "relay", **options}, headers=headers) as source:
        source.response.raise_for_status()
        assert source.response.headers["cache-control"] == "no-store"
        assert source.response.headers["x-accel-buffering"] == "no"
        yield Events(source.iter_sse())


class Events:
    def __init__(self, events):
        self.events = events
        self.log = []
        self.last = None

    def next(self, kind: str) -> dict:
        for sse in self.events:
            self.last = sse.id or self.last
            event = sse.json()
            assert sse.event == "message"
            if "seq" in event and event["type"] != "session.restored":
                assert int(sse.id) == event["seq"]
                self.log.append(event)
            if event["type"] == kind:
                return event
        raise AssertionError(f"the stream ended before {kind}")


def numbered(member: Member) -> list[dict]:
    return [event for event in member.events if "seq" in event]


def test_a_stream_has_the_log_of_a_websocket(http, room):
    member = Member(room, "relay", "voxhall.v1")
    with stream(http, room) as heard:
        created = heard.next("session.created")["session"]
        assert created["room"] == room
        joined = member.next("room.member_joined")
        for number in range(50):
            member.send({"type": "room.send", "to": created["member"], "data": number})
            answer = http.post(f"/sse/{room}", json={"type": "room.send", "data": number, "client_seq": number + 1})
            assert answer.json() == {"accepted": 1, "client_seq": number + 1}
        late = Member(room, "relay", "")
        member.next("room.member_joined")
        heard.next("room.member_joined")
        late.leave()
        member.next("room.member_left")
        heard.next("room.member_left")
        # Each is spared what it said itself; nothing else differs.
        said = [event for event in numbered(member) if event.get("from") == created["member"]]
        others = [event for event in heard.log if event.get("from") != created["member"] and "from" in event]
        assert [event["data"] for event in said] == [event["data"] for event in others] == list(range(50))
        common = [event for event in numbered(member) if "from" not in event and event != joined]
        assert common == [event for event in heard.log if "from" not in event]
        seqs = sorted(event["seq"] for event in [joined, *said, *others, *common])
        assert seqs == list(range(joined["seq"], joined["seq"] + len(seqs)))


@pytest.mark.parametrize("with_token", [False, True])
def test_what_was_missed_is_told_to_one_who_comes_back(http, room, with_token):
    member = Member(room, "relay", "")
    with stream(http, room) as heard:
        created = heard.next("session.created")["session"]
        member.send({"type": "room.send", "data": "before"})
        assert heard.next("room.message")["data"] == "before"
        after = heard.last
    member.next("room.member_left")
    for number in range(30):
        member.send({"type": "room.send", "data": number})
    member.send({"type": "ping"})
    member.next("pong")
    back = {"resume": created["resume"]["token"]} if with_token else {}
    with stream(http, room, after=after, **back) as heard:
        again = heard.next("session.created")["session"]
        assert (again["member"] == created["member"]) == with_token
        assert heard.next("session.restored")["recovered"] is True
        assert [heard.next("room.message")["data"] for _ in range(30)] == list(range(30))
        member.send({"type": "room.send", "data": "live"})
        assert heard.next("room.message")["data"] == "live"


def test_a_number_that_is_none_is_refused_and_one_of_another_room_is_not_recovered(http, room):
    assert http.get(f"/sse/{room}", headers={"Last-Event-ID": "x"}).status_code == 400
    with stream(http, room, after=12345) as heard:
        heard.next("session.created")
        assert heard.next("session.restored")["recovered"] is False


def test_refusals_are_problems(http, room):
    answer = http.post(f"/sse/{room}", content=json.dumps({"type": "ping"}))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
