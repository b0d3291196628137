"""Back-off, codecs, `Retry-After`, the stream of events."""

import asyncio
import errno
import json
import socket

import pytest

import voxhall
from voxhall.backoff import Backoff
from voxhall.clock import SystemClock
from voxhall.codec import Audio, codec_of
from voxhall.connection import Connection
from voxhall.dial import Dialer
from voxhall.errors import LinkClosed, LinkFailed, Unreadable
from voxhall.feed import Feed
from voxhall.links import Address, seconds_of
from voxhall.pace import Pace
from voxhall.session import Session
from voxhall.sse import Answer, EventStreamLink


def test_the_back_off_grows_to_its_cap_and_is_jittered_in_full() -> None:
    longest = Backoff(lambda: 1.0)
    waits = [longest.next_s() for _ in range(100)]
    assert waits[:3] == [1.0, 1.5, 2.25] and max(waits) == waits[-1] == 30.0
    longest.reset()
    assert longest.next_s() == 1.0
    shortest = Backoff(lambda: 0.0)
    assert shortest.next_s() == 0.0 and shortest.next_s(at_least_s=2.0) == 2.0


def test_the_pace_is_the_servers_and_goes_in_portions() -> None:
    limits = {"messages_per_s": 200, "messages_burst": 400, "bytes_per_s": 1000, "message_bytes_max": 1000}
    pace, now, sent = Pace(limits, 0.0), 0.0, []
    assert pace.window == 200
    while len(sent) < 1000:
        if (wait := pace.wait_s(now)) > 0:
            now += wait
        else:
            pace.pay(now, 0)
            sent.append(now)
    assert sent.count(0.0) == 100 and sent.count(sent[100]) == 10 and sent[100] == pytest.approx(0.05)
    # Whatever the network does with what is younger than a second: never more than the server takes at once.
    assert all(late - early > 1 for early, late in zip(sent, sent[301:]))
    pace.pay(now + 9, 1000)
    assert pace.wait_s(now + 9) == pytest.approx(0.5) and pace.wait_s(now + 9.51) == 0


def test_without_limits_there_is_no_pace() -> None:
    pace = Pace({"members_max": 64}, 0.0)
    for _ in range(10_000):
        assert pace.wait_s(0.0) == 0.0
        pace.pay(0.0, 1 << 20)
    assert pace.window is None


def test_retry_after() -> None:
    assert seconds_of("3") == 3.0 and seconds_of(None) is None and seconds_of("soon") is None
    assert seconds_of("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    assert (seconds_of("Fri, 01 Jan 2100 00:00:00 GMT") or 0) > 1e6


def test_addresses() -> None:
    assert Address("ws://host:1", "a:b").url("ws", {}) == "ws://host:1/ws/a:b"
    assert Address("https://host/base/", "r").url("ws", {"after": "3"}) == "wss://host/base/ws/r?after=3"
    assert Address("wss://host", "r").url("sse", {}) == "https://host/sse/r"


@pytest.mark.parametrize("subprotocol", ["", "voxhall.v1.plain", "voxhall.v1", "voxhall.v1.msgpack"])
def test_what_a_codec_writes_has_the_event(subprotocol: str) -> None:
    codec = codec_of(subprotocol)
    event = {"type": "room.send", "data": {"text": "ü", "list": [1, 2.5, None, True]}}
    assert codec.read(codec.event(event)) == [event]


def test_what_cannot_be_sent_is_said_so_by_send() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    never = [object(), {1, 2}, b"bytes", float("nan"), "\ud800", deep]

    async def scene() -> None:
        for subprotocol, wrong in (("voxhall.v1", never), ("voxhall.v1.msgpack", [*never, 2**70])):
            # Nobody is there: what is accepted waits.
            client = voxhall.Client("ws://127.0.0.1:1", "room", subprotocol=subprotocol, queue_max=2)
            client.start()
            for data in wrong:
                with pytest.raises((TypeError, ValueError)):
                    await client.room_send(data)
                with pytest.raises((TypeError, ValueError)):
                    await client.subscribe(data)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await client.send_audio("words")  # type: ignore[arg-type]
            event = {"type": "room.send", "data": {"list": (1, 2)}}
            await client.send(event)
            await client.send(event)
            assert client.ended is None
            with pytest.raises(voxhall.QueueFull):
                await client.send(event)
            await client.close()

    asyncio.run(scene())


def test_what_was_accepted_does_not_change_any_more() -> None:
    event = {"type": "room.send", "data": {"list": (1, 2), 3: "three"}}
    for subprotocol in ("voxhall.v1", "voxhall.v1.msgpack"):
        codec = codec_of(subprotocol)
        copy = codec.as_sent(event)
        event["data"]["list"] = ()  # type: ignore[index]
        assert codec.read(codec.event(copy)) == [{"type": "room.send", "data": {"list": [1, 2], "3": "three"}}]
        event["data"]["list"] = (1, 2)  # type: ignore[index]


def test_a_request_has_no_more_bytes_than_a_server_takes() -> None:
    async def scene() -> None:
        sent: list[list[str | bytes]] = []
        session = Session(queue_max=256)
        session.begin()
        session.take({"type": "session.created", "session": {}})
        for n in (10_000, 90_000, 90_000, 900_000, 10_000):
            session.push({"type": "room.send", "data": "ü" * (n // 2)})

        class Uplink:
            subprotocol, takes_bytes = "", False

            async def send(self, messages: list[str | bytes]) -> int:
                sent.append(messages)
                return sum(map(len, sent))

        connection = Connection(Uplink(), session, SystemClock(), None, None, None)  # type: ignore[arg-type]
        await connection._send_waiting()
        assert [len(messages) for messages in sent] == [3, 1, 1]

    asyncio.run(scene())


def test_who_closes_may_be_cancelled() -> None:
    async def scene() -> None:
        asked, let_go = asyncio.Event(), asyncio.Event()

        async def token() -> str:
            try:
                asked.set()
                await asyncio.Event().wait()
            finally:
                await let_go.wait()
            return ""

        client = voxhall.Client("ws://127.0.0.1:1", "room", token=token)
        client.start()
        await asked.wait()
        closing = asyncio.create_task(client.close())
        while client.ended is None:
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(closing.cancel)
        await asyncio.wait((closing,))
        assert closing.cancelled()
        let_go.set()
        await client.close()

    asyncio.run(scene())


def test_a_handler_is_taken_off_once() -> None:
    feed = Feed()
    off, other = feed.on("a", print), feed.on("a", print)
    off()
    off()
    other()


def test_without_a_network_the_websocket_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([socket.gaierror(-2, "no such name"), OSError(errno.ENETUNREACH, "no network"), ConnectionResetError()] * 2)

    async def connect(*_: object, **__: object) -> None:
        raise next(errors)

    async def scene() -> None:
        dialer = Dialer("ws://127.0.0.1:1", "room", {}, "voxhall.v1", "auto", None)
        ways = []
        for _ in range(6):
            with pytest.raises(LinkFailed) as failure:
                await dialer.open({}, None)
            await dialer.failed(failure.value)
            ways.append(dialer.transport)
        assert ways == ["websocket"] * 5 + ["sse"]

    monkeypatch.setattr("voxhall.links.connect", connect)
    asyncio.run(scene())


def test_what_cannot_be_read_is_said_so() -> None:
    for subprotocol, message in (
        ("voxhall.v1", '{"type":"a"}\n{'),
        ("voxhall.v1", b"\x01\x00"),
        ("voxhall.v1", "[]"),
        ("voxhall.v1", "[" * 100_000),
        ("voxhall.v1.msgpack", b"\x02" + bytes(7) + b"\x81\xa4type"),
        ("voxhall.v1.msgpack", b"\x02" + bytes(7) + b"\xc1"),
        ("voxhall.v1.msgpack", b"\x02" + bytes(7) + b"\x01"),
        ("", '{"type":"response.output_audio.delta","delta":"?"}'),
    ):
        with pytest.raises(Unreadable):
            codec_of(subprotocol).read(message)
    header = bytes([1, 3, 7, 0, 40, 0, 0, 0])
    assert codec_of("voxhall.v1").read(header + b"ab") == [Audio(b"ab", True, True, 7, 40)]
    assert codec_of("voxhall.v1").read(b"\x09" + bytes(7)) == []


@pytest.mark.parametrize("chunked", [True, False])
def test_a_stream_of_events_may_be_cut_anywhere(chunked: bool) -> None:
    events = [{"type": "a", "text": "ü\\n"}, {"type": "b"}]
    text = "retry: 1\nid: 4\n\n: ping\n\n"
    text += "".join(f"id: {at}\r\ndata: {json.dumps(event)}\r\n\r\n" for at, event in enumerate(events))
    text += 'event: close\ndata: {"code": 1012, "reason": "restart"}\n\n'
    body = text.encode()

    async def read(pieces: list[bytes]) -> list[object]:
        reader = asyncio.StreamReader()
        for piece in pieces:
            reader.feed_data(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        reader.feed_eof()
        headers = {"transfer-encoding": "chunked"} if chunked else {}
        link = EventStreamLink(Answer(200, headers, reader), None, Address("http://h", "r"), {}, None)  # type: ignore[arg-type]
        seen: list[object] = []
        try:
            while True:
                seen += codec_of("").read(await link.receive())
        except LinkClosed as closed:
            return [*seen, closed.code, closed.reason]

    for at in range(1, len(body)):
        assert asyncio.run(read([body[:at], body[at:]])) == [*events, 1012, "restart"], f"cut at {at}"
