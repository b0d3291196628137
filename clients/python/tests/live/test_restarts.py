"""The client and a server that is killed and started anew."""

from pathlib import Path

from node import Node
from scene import Cutter, play, until

import voxhall


def test_what_is_gone_with_the_server_is_told(tmp_path: Path) -> None:
    async def scene() -> None:
        async with await Node.start() as first, Cutter(first.port) as way:
            async with voxhall.Client(way.url, "room", engine="relay", random=lambda: 0.01) as client:
                events = aiter(client)
                for channel in ("collection:*", "user:7:*"):
                    await client.subscribe(channel)
                    await until(events, "channel.subscribed", channel=channel)
                await client.update_state({"page": 4})
                await client.publish("user:7:operation:1", 1)
                await until(events, "channel.message", data=1)
                assert client.state == {"page": 4}
                way.open = False
                await first.kill()
                await until(events, "client.away")
                async with await Node.start() as second:
                    way.port, way.open = second.port, True
                    assert (await until(events, "session.restored"))["recovered"] is False
                    assert client.state == {}
                    gaps = [await until(events, "client.gap") for _ in range(3)]
                    said = [(gap["channel"], gap["reason"]) for gap in gaps]
                    assert said == [(None, "invalid_token"), ("collection:*", "several_streams"), ("user:7:*", "epoch")]
                    # Both are subscribed to again.
                    async with voxhall.Client(way.url, "other", engine="relay") as publisher:
                        await publisher.publish("user:7:operation:2", 2)
                    await until(events, "channel.message", data=2)

    play(scene)


def test_a_server_with_a_store_goes_on_where_it_was(tmp_path: Path) -> None:
    kept = ("store.kind=file", f"store.path={tmp_path / 'rooms'}", "auth.resume_key=0123456789abcdef0123456789abcdef")

    async def scene() -> None:
        async with await Node.start(*kept) as first, Cutter(first.port) as way:
            async with (
                voxhall.Client(way.url, "room", engine="relay", random=lambda: 0.01) as speaker,
                voxhall.Client(way.url, "room", random=lambda: 0.01) as listener,
            ):
                heard: list[object] = []
                listener.on("room.message", lambda event: heard.append(event["data"]))
                to_listener = aiter(listener)
                for n in range(20):
                    await speaker.room_send(n)
                await until(to_listener, "room.message", data=19)
                way.open = False
                first.process.terminate()
                way.cut()
                await first.process.wait()
                for n in range(20, 40):
                    await speaker.room_send(n)
                async with await Node.start(*kept) as second:
                    way.port, way.open = second.port, True
                    assert (await until(to_listener, "session.restored"))["recovered"] is True
                    await until(to_listener, "room.message", data=39)
                    assert heard == list(range(40))

    play(scene)
