"""The client: one member of a room that comes back by itself."""

from __future__ import annotations

import asyncio
import inspect
import random as _random
import ssl
from types import TracebackType
from typing import Any, AsyncIterator, Awaitable, Callable, Mapping, Union

from .backoff import Backoff
from .channels import subscribe_event, unsubscribe_event
from .clock import Clock, SystemClock
from .codec import V1, Audio, Event, Item, codec_of
from .connection import CONNECT_S, Connection
from .dial import Dialer
from .errors import Ended, LinkFailed, LinkRefused, VoxhallError
from .feed import Feed, Handler
from .links import Link
from .session import Phase, Session

Token = Union[str, Callable[[], Union[str, Awaitable[str]]], None]

# Close codes after which coming back would be of no use, or against somebody's will.
FINAL = frozenset({1000, 1002, 1003, 1007, 1008, 1009})


class Client:
    """Joins a room, stays in it across connections, and misses nothing without saying so.

        async with Client("ws://127.0.0.1:8080", "lobby", engine="relay") as client:
            await client.room_send({"hello": "everyone"})
            async for event in client:
                print(event["type"])

    `clock` and `random` are for tests.
    """

    def __init__(
        self,
        url: str,
        room: str,
        *,
        token: Token = None,
        engine: str | None = None,
        format: str | None = None,
        rate: int | None = None,
        subprotocol: str = V1,
        transport: str = "auto",
        queue_max: int = 256,
        query: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
    ):
        # Says at once what is missing for it.
        self._codec = codec_of(subprotocol)
        asked = {"engine": engine, "format": format, "rate": rate, **(query or {})}
        own = {key: str(value) for key, value in asked.items() if value is not None}
        self._token = token
        self._clock: Clock = clock or SystemClock()
        self._session = Session(queue_max)
        self._dialer = Dialer(url, room, own, subprotocol, transport, tls)
        self._backoff = Backoff(random)
        self._feed = Feed()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._was_welcomed = False
        self._asked_again = False
        self._why_away = ""

    # Life.

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begins to connect, and returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._live())

    async def connect(self) -> None:
        """Connects, and returns when the server has welcomed this client. Raises `Ended` when it never will."""
        self.start()
        async with self._feed.changed:
            await self._feed.changed.wait_for(lambda: self._was_welcomed or self.ended is not None)
        if self.ended is not None and not self._was_welcomed:
            raise self.ended

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends what waits, as far as there is a connection, and says goodbye."""
        await self._feed.end(Ended("closed", code=code, by_user=True))
        connection, task = self._connection, self._task
        try:
            if connection is not None:
                await connection.close(code, reason)
        finally:
            self._feed.stop()
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        if task is not None and task is not asyncio.current_task():
            # Not awaited itself: who closes may be cancelled too, and that is another matter.
            await asyncio.wait((task,))
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    @property
    def ended(self) -> Ended | None:
        """Why the client will not come back; nothing while it may."""
        return self._feed.ended

    @property
    def is_connected(self) -> bool:
        """Whether what is sent now goes out now."""
        return self._session.phase is Phase.LIVE

    @property
    def transport(self) -> str | None:
        """`websocket` or `sse`, while there is a connection."""
        return self._dialer.transport if self._connection is not None else None

    @property
    def id(self) -> str | None:
        """The connection's id, as the server calls it."""
        return self._session.id

    @property
    def member(self) -> int | None:
        """This member's number in the room."""
        return self._session.member

    @property
    def state(self) -> Event:
        """The room's state, as far as it was told."""
        return self._session.state

    # Events from the server.

    def on(self, kind: str, handler: Handler) -> Callable[[], None]:
        """Calls `handler` with each event of this type; `*` is every event, `audio` every piece of audio. Returns what takes
        it off again. A coroutine function is awaited before the next event."""
        return self._feed.on(kind, handler)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Every event from the first on. Ends quietly after `close`, and with `Ended` when the server ended it."""
        async with self._feed.loop():
            while (event := await self._feed.take(self._feed.events)) is not None:
                yield event

    async def audio(self) -> AsyncIterator[Audio]:
        """Every piece of audio; who falls behind loses the oldest."""
        while (piece := await self._feed.take(self._feed.audio)) is not None:
            yield piece

    # Events to the server.

    async def send(self, event: Event) -> None:
        """Sends an event. While there is no connection it waits; when too many do, this raises `QueueFull`. Over a connection
        this returns when there is room for it. Events are numbered, so that none is lost and none taken twice. What can't
        be sent, because it is no JSON or the server takes none so long, raises `TypeError` or `ValueError`."""
        event = self._codec.as_sent(event, self._session.message_bytes_max)
        await self._push(lambda: self._session.push(event))

    async def room_send(self, data: Any, to: int | None = None) -> None:
        """Sends any JSON to the other members, or to one."""
        event: Event = {"type": "room.send", "data": data}
        await self.send(event if to is None else {**event, "to": to})

    async def update_state(self, state: Event) -> None:
        """Merges this into the room's state; `None` removes a key."""
        await self.send({"type": "session.update", "state": state})

    async def send_audio(self, payload: bytes) -> None:
        """Audio in the room's format. Without a connection it is dropped: speech that is late is of no use."""
        # A copy of whatever has bytes; nothing else is taken.
        payload = bytes(memoryview(payload))
        await self._push(lambda: self._session.push_audio(payload))

    async def publish(self, channel: str, data: Any, **options: Any) -> None:
        """Publishes on a channel; `ttl_s` and `dedupe` are options."""
        await self.send({"type": "channel.publish", "channel": channel, "data": data, **options})

    async def subscribe(self, channel: str, after: str | int | None = None) -> None:
        """Subscribes to a channel or a pattern; again after each reconnect, from where it was."""
        self._check()
        self._codec.as_sent(subscribe_event(channel, after))
        self._reply(self._session.subscribe(channel, after))

    async def unsubscribe(self, channel: str) -> None:
        """Takes a subscription back."""
        self._check()
        self._codec.as_sent(unsubscribe_event(channel))
        self._reply(self._session.unsubscribe(channel))

    async def refresh_token(self) -> None:
        """Asks for a fresh token and shows it to the server, before the old one expires."""
        token = await self._fresh_token()
        if token is not None and self.is_connected and self._connection is not None:
            self._connection.refresh(token)

    async def _push(self, push: Callable[[], None]) -> None:
        async with self._feed.changed:
            if not self._may_push():
                with self._feed.pressed():
                    await self._feed.changed.wait_for(self._may_push)
            self._check()
            push()
        if self._connection is not None:
            self._connection.wake()

    def _may_push(self) -> bool:
        """Whether there is room, or no use in waiting for it."""
        return not self._session.is_crowded or self.ended is not None or self._feed.is_stuffed

    def _reply(self, event: Event | None) -> None:
        if event is not None and self._connection is not None:
            self._connection.reply(event)

    def _check(self) -> None:
        if self.ended is not None:
            raise self.ended
        if self._task is None:
            raise VoxhallError("not connected: `await client.connect()` comes first")

    # Connections, one after the other.

    async def _live(self) -> None:
        try:
            while True:
                delay_s = await self._attempt()
                away = {"type": "client.away", "reconnect_in_ms": round(delay_s * 1000)}
                await self._feed.give({**away, "reason": self._why_away})
                await self._clock.sleep("backoff", delay_s)
        except Ended as end:
            await self._feed.end(end)
        except Exception as error:
            await self._feed.end(Ended(f"{type(error).__name__}: {error}"))
            raise

    async def _attempt(self) -> float:
        """One connection, to its end; how long to wait before the next."""
        deadline = asyncio.create_task(self._clock.sleep("connect", CONNECT_S))
        try:
            link = await self._open(deadline)
            self._connection = Connection(
                link, self._session, self._clock, self._give, self._feed.wake, self._backoff.reset
            )
            outcome = await self._connection.run(deadline)
        except LinkRefused as refusal:
            self._why_away = str(refusal)
            return await self._after_refusal(refusal)
        except LinkFailed as failure:
            self._why_away = str(failure)
            await self._dialer.failed(failure)
            return self._backoff.next_s()
        finally:
            deadline.cancel()
            connection, self._connection = self._connection, None
        self._why_away = outcome.reason or f"closed with {outcome.code}"
        if not connection.was_welcomed:
            await self._dialer.failed()
        if outcome.code == 1008 and "expired" in outcome.reason and self._may_ask_again():
            return 0.0
        if outcome.code in FINAL:
            raise Ended(self._why_away, code=outcome.code)
        return 0.0 if outcome.moves else self._backoff.next_s(outcome.retry_after_s)

    async def _open(self, deadline: asyncio.Task[None]) -> Link:
        opening = asyncio.create_task(self._dial())
        try:
            await asyncio.wait((opening, deadline), return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                return opening.result()
            raise LinkFailed("no answer", reached=True)
        finally:
            opening.cancel()

    async def _dial(self) -> Link:
        return await self._dialer.open(self._session.query(), await self._fresh_token())

    async def _fresh_token(self) -> str | None:
        token = self._token() if callable(self._token) else self._token
        return await token if inspect.isawaitable(token) else token

    async def _after_refusal(self, refusal: LinkRefused) -> float:
        if refusal.status == 401 and self._may_ask_again():
            return 0.0
        if self._dialer.is_final(refusal.status):
            raise Ended(refusal.reason or f"refused with {refusal.status}", status=refusal.status)
        await self._dialer.failed(refusal)
        return self._backoff.next_s(refusal.retry_after_s or 0.0)

    def _may_ask_again(self) -> bool:
        """The token has expired: the callback may know of a better one, once for each welcome."""
        may = callable(self._token) and not self._asked_again
        self._asked_again = True
        return may

    async def _give(self, *items: Item) -> None:
        if any(isinstance(item, dict) and item["type"] == "session.created" for item in items):
            self._was_welcomed, self._asked_again = True, False
            self._dialer.worked()
        await self._feed.give(*items)
