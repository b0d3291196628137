"""What the user is given, and what becomes of it when nobody takes it."""

import asyncio
from typing import Any

import pytest

from voxhall.codec import Audio
from voxhall.errors import Ended
from voxhall.feed import EVENTS_MAX, Feed


def event(n: int) -> dict[str, Any]:
    return {"type": "room.message", "data": n}


async def loop_of(feed: Feed, most: int) -> list[int]:
    """A loop that is left after so many events."""
    taken: list[int] = []
    async with feed.loop():
        while len(taken) < most and (one := await feed.take(feed.events)) is not None:
            taken.append(one["data"])
    return taken


def play(scene: Any) -> None:
    asyncio.run(asyncio.wait_for(scene(), 30))


def test_who_only_hears_audio_does_not_stop_the_reading() -> None:
    async def scene() -> None:
        feed = Feed()
        hearer = asyncio.create_task(feed.take(feed.audio))
        for n in range(EVENTS_MAX + 7):
            await feed.give(event(n))
        await feed.give(Audio(b"a"))
        assert (await hearer).payload == b"a"
        # The last are still there for a loop that begins late.
        assert (await loop_of(feed, 1)) == [7] and len(feed.events) == EVENTS_MAX - 1

    play(scene)


def test_who_has_left_its_loop_does_not_stop_the_reading() -> None:
    async def scene() -> None:
        feed, handled = Feed(), []
        feed.on("room.message", lambda one: handled.append(one["data"]))
        looping = asyncio.create_task(loop_of(feed, 3))
        for n in range(3 * EVENTS_MAX):
            await feed.give(event(n))
        assert await looping == [0, 1, 2] and handled == list(range(3 * EVENTS_MAX))

    play(scene)


def test_a_loop_that_does_not_keep_up_is_waited_for_and_loses_nothing() -> None:
    async def scene() -> None:
        feed, most = Feed(), 3 * EVENTS_MAX
        async with feed.loop():
            for n in range(EVENTS_MAX):
                await feed.give(event(n))
            slow = asyncio.create_task(feed.give(event(EVENTS_MAX), event(EVENTS_MAX + 1)))
            await asyncio.sleep(0)
            # The connection goes, and with it who waited: what was taken from the server is given all the same.
            slow.cancel()
            rest = asyncio.create_task(feed.give(*(event(n) for n in range(EVENTS_MAX + 2, most))))
            assert await loop_of(feed, most) == list(range(most))
            await rest

    play(scene)


def test_what_waits_is_given_before_the_end() -> None:
    async def scene() -> None:
        feed, go_on = Feed(), asyncio.Event()

        async def handler(_: object) -> None:
            await go_on.wait()

        feed.on("room.message", handler)
        giving = asyncio.create_task(feed.give(event(1), event(2)))
        looping = asyncio.create_task(loop_of(feed, 9))
        await asyncio.sleep(0)
        await feed.end(Ended("over", code=1000))
        go_on.set()
        await giving
        with pytest.raises(Ended):
            await looping
        assert not feed.events

    play(scene)


def test_what_a_handler_raises_is_not_kept_from_who_reads() -> None:
    async def scene() -> None:
        feed = Feed()
        feed.on("*", lambda one: 1 / one["data"])
        with pytest.raises(ZeroDivisionError):
            await feed.give(event(0))

    play(scene)


@pytest.mark.parametrize("looping", [True, False])
def test_whoever_waits_for_the_server_lets_it_be_heard(looping: bool) -> None:
    async def scene() -> None:
        feed, heard = Feed(), asyncio.Event()

        async def answer(_: object) -> None:
            """As `send` does when it has to know first what has arrived."""
            async with feed.changed:
                with feed.pressed():
                    await feed.changed.wait_for(heard.is_set)

        async def read() -> None:
            for n in range(2 * EVENTS_MAX):
                await feed.give(event(n))
            heard.set()
            await feed.wake()

        reading = asyncio.create_task(read())
        if looping:
            async with feed.loop():
                await answer(await feed.take(feed.events))
        else:
            feed.on("room.message", answer)
        await reading

    play(scene)
