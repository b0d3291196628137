"""The client in rooms of a real server."""

import pytest
from scene import URL, Cutter, fresh_room, play, until

import voxhall

# Every way to talk, as options of the client.
WAYS = [
    {"subprotocol": "voxhall.v1"},
    {"subprotocol": "voxhall.v1.plain"},
    {"subprotocol": "voxhall.v1.msgpack"},
    {"transport": "sse"},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_two_members_talk(way: dict[str, str]) -> None:
    async def scene() -> None:
        room = fresh_room()
        async with (
            voxhall.Client(URL, room, engine="relay", **way) as ann,
            voxhall.Client(URL, room, **way) as ben,
        ):
            to_ann, to_ben = aiter(ann), aiter(ben)
            await until(to_ann, "room.member_joined")
            assert ann.member != ben.member
            await ann.room_send({"n": 1, "text": "ü"})
            assert (await until(to_ben, "room.message"))["data"] == {"n": 1, "text": "ü"}
            await ben.room_send([2], to=ann.member)
            message = await until(to_ann, "room.message")
            assert message["data"] == [2] and message["from"] == ben.member
            assert ann.transport == way.get("transport", "websocket")
            await ann.send_audio(b"ab" * 320)
            assert (await anext(ben.audio())).payload == b"ab" * 320
            await ben.update_state({"page": 4})
            await until(to_ann, "session.updated")
            assert ann.state == {"page": 4}

    play(scene)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_nothing_is_missed_and_nothing_comes_twice_over_many_cuts(way: dict[str, str]) -> None:
    rounds, each = 12, 15

    async def scene() -> None:
        room = fresh_room()
        heard: list[object] = []
        restored: list[bool] = []
        async with (
            Cutter() as cutter,
            voxhall.Client(URL, room, engine="relay") as speaker,
            voxhall.Client(cutter.url, room, **way, random=lambda: 0.01) as listener,
        ):
            listener.on("room.message", lambda event: heard.append(event["data"]))
            listener.on("session.restored", lambda event: restored.append(event["recovered"]))
            events = aiter(listener)
            for turn in range(rounds):
                for n in range(each):
                    await speaker.room_send(turn * each + n)
                    if n == each // 2:
                        cutter.cut()
                await until(events, "session.restored")
            await speaker.room_send("end")
            await until(events, "room.message", data="end")
        assert heard == [*range(rounds * each), "end"]
        assert len(restored) >= rounds and all(restored)

    play(scene)


def test_what_was_said_while_away_is_heard_once() -> None:
    async def scene() -> None:
        room = fresh_room()
        heard: list[object] = []
        async with (
            Cutter() as cutter,
            voxhall.Client(URL, room, engine="relay") as listener,
            voxhall.Client(cutter.url, room, random=lambda: 0.01) as speaker,
        ):
            listener.on("room.message", lambda event: heard.append(event["data"]))
            events = aiter(speaker)
            member = speaker.member
            for n in range(100):
                await speaker.room_send(n)
                if n % 10 == 5:
                    # Some of what was just said is on its way, and nobody knows how far.
                    cutter.cut()
                    await until(events, "client.away")
                if n % 10 == 9:
                    await until(events, "session.restored")
            await until(aiter(listener), "room.message", data=99)
            assert speaker.member == member
        assert heard == list(range(100))

    play(scene)


def test_what_piled_up_is_more_than_may_be_sent_at_once() -> None:
    # The server takes 400 at once, and 200 a second.
    many = 700

    async def scene() -> None:
        room = fresh_room()
        refused: list[voxhall.Event] = []
        async with (
            Cutter() as cutter,
            voxhall.Client(URL, room, engine="relay") as listener,
            voxhall.Client(cutter.url, room, random=lambda: 0.01, queue_max=many) as speaker,
        ):
            speaker.on("error", refused.append)
            cutter.swallows = True
            for n in range(many):
                await speaker.room_send(n)
            cutter.swallows = False
            cutter.cut()
            heard = [(await until(aiter(listener), "room.message"))["data"] for _ in range(many)]
        assert heard == list(range(many)) and not refused

    play(scene)


def test_state_and_numbers_survive_a_long_absence_or_are_said_to_be_lost() -> None:
    async def scene() -> None:
        room = fresh_room()
        async with (
            Cutter() as cutter,
            voxhall.Client(URL, room, engine="relay") as speaker,
            voxhall.Client(cutter.url, room, random=lambda: 0.01) as listener,
        ):
            events = aiter(listener)
            await listener.update_state({"page": 7})
            await until(events, "session.updated")
            cutter.open = False
            cutter.cut()
            # More than a room keeps.
            for n in range(300):
                await speaker.room_send(n)
            await speaker.update_state({"mark": 1})
            async for _ in speaker:
                if "mark" in speaker.state:
                    break
            cutter.open = True
            restored = await until(events, "session.restored")
            assert restored["recovered"] is False and restored["reason"]
            assert listener.state == {"page": 7, "mark": 1}
            await speaker.room_send("after")
            assert (await until(events, "room.message"))["data"] == "after"

    play(scene)


def test_a_newer_connection_ends_the_older() -> None:
    async def scene() -> None:
        room = fresh_room()
        async with voxhall.Client(URL, room, engine="relay") as first:
            created = await until(aiter(first), "session.created")
            resume = created["session"]["resume"]
            query = {"resume": resume["token"], "after": str(resume["seq"])}
            async with voxhall.Client(URL, room, query=query) as second:
                with pytest.raises(voxhall.Ended) as ended:
                    async for _ in first:
                        pass
                assert ended.value.code == 1008
                assert second.member == first.member

    play(scene)


def test_refusals_and_closes_end_it() -> None:
    async def scene() -> None:
        with pytest.raises(voxhall.Ended) as ended:
            await voxhall.Client(URL, "no room").connect()
        assert ended.value.status == 400
        with pytest.raises(voxhall.VoxhallError):
            await voxhall.Client(URL, "room").room_send(1)
        client = voxhall.Client(URL, fresh_room())
        await client.connect()
        await client.close()
        with pytest.raises(voxhall.Ended):
            await client.room_send(1)
        assert [event["type"] async for event in client][0] == "session.created"

    play(scene)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_is_too_long_or_cannot_be_said_harms_nothing_else(way: dict[str, str]) -> None:
    async def scene() -> None:
        async with (
            voxhall.Client(URL, (room := fresh_room()), engine="relay", **way) as ann,
            voxhall.Client(URL, room) as ben,
        ):
            for data in ("ü" * 600_000, object(), {"half": "\ud800"}):
                with pytest.raises((TypeError, ValueError)):
                    await ann.room_send(data)
            await ann.room_send("ü" * 400_000)
            await ann.room_send({1: ("one",)})
            to_ben = aiter(ben)
            assert (await until(to_ben, "room.message"))["data"] == "ü" * 400_000
            assert (await until(to_ben, "room.message"))["data"] == {"1": ["one"]}

    play(scene)


def test_a_conversation() -> None:
    async def scene() -> None:
        async with voxhall.Client(URL, fresh_room(), engine="parrot") as client:
            content = [{"type": "input_text", "text": "two words"}]
            item = {"type": "message", "role": "user", "content": content}
            await client.send({"type": "conversation.item.create", "item": item})
            await client.send({"type": "response.create"})
            events = aiter(client)
            done = await until(events, "response.done")
            assert done["response"]["status"] == "completed"
            assert sum(len(piece.payload) for piece in [await anext(client.audio())]) > 0

    play(scene)


def test_channels_go_on_where_they_were() -> None:
    async def scene() -> None:
        room, channel = fresh_room(), f"user:{fresh_room()}:operation:1"
        got: list[object] = []
        async with (
            Cutter() as cutter,
            voxhall.Client(URL, room, engine="relay") as publisher,
            voxhall.Client(cutter.url, room, random=lambda: 0.01) as subscriber,
        ):
            subscriber.on("channel.message", lambda event: got.append(event["data"]))
            events = aiter(subscriber)
            await subscriber.subscribe(channel)
            await until(events, "channel.subscribed")
            for n in range(60):
                await publisher.publish(channel, n)
                if n % 20 == 10:
                    cutter.cut()
                if n % 20 == 19:
                    await until(events, "session.restored")
            await publisher.publish(channel, "end", dedupe="once")
            await publisher.publish(channel, "end", dedupe="once")
            await publisher.publish(channel, "the end")
            await until(events, "channel.message", data="the end")
        assert got == [*range(60), "end", "the end"]

    play(scene)
