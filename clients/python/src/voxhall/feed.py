"""What a user is given: events and audio, to handlers and to loops."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import Any, AsyncIterator, Callable, Iterator

from .codec import Audio, Item
from .errors import Ended

Handler = Callable[[Any], object]

# What waits for a loop; where one does not keep up nothing more is read, and the server sees that. Where there is none, the
# oldest go.
EVENTS_MAX = 1024
# What is read beyond that while somebody waits in `send` for the server's word.
LATE_MAX = 8192
# Pieces of audio that wait for a user; the oldest go first.
AUDIO_MAX = 512


class Feed:
    """Between the connections and the user."""

    def __init__(self) -> None:
        self.changed = asyncio.Condition()
        self.ended: Ended | None = None
        self.events: deque[Any] = deque()
        self.audio: deque[Any] = deque(maxlen=AUDIO_MAX)
        self._handlers: dict[str, list[Handler]] = {}
        self._loops = 0
        self._pressed = 0
        # Taken from the server and not given yet, and the task that gives it: a connection that ends takes neither away.
        self._late: deque[Item] = deque()
        self._giver: asyncio.Task[None] | None = None
        self._fault: Exception | None = None

    def on(self, kind: str, handler: Handler) -> Callable[[], None]:
        handlers = self._handlers.setdefault(kind, [])
        handlers.append(handler)
        taken_off = False

        def off() -> None:
            nonlocal taken_off
            if not taken_off:
                handlers.remove(handler)
            taken_off = True

        return off

    async def give(self, *items: Item) -> None:
        """Gives these to the user, in order. Waits for handlers, and for a loop that does not keep up, but not while one of
        them may itself be waiting for what is to be read. What a handler raises is raised here."""
        if self.ended is not None and self.ended.by_user:
            return
        self._late.extend(items)
        if self._giver is None and self._late:
            self._giver = asyncio.create_task(self._give_late())
        async with self.changed:
            if self.is_stuffed:
                self.changed.notify_all()
            await self.changed.wait_for(self._may_read_on)
        if self._fault is not None:
            raise self._fault

    def _may_read_on(self) -> bool:
        if self._giver is None or (self.ended is not None and self.ended.by_user):
            return True
        return self._pressed > 0 and not self.is_stuffed

    @property
    def is_stuffed(self) -> bool:
        """Whether so much waits for the user that nothing more is read, whoever waits for it."""
        return len(self._late) >= LATE_MAX

    @contextmanager
    def pressed(self) -> Iterator[None]:
        """While somebody waits for what the server says."""
        self._pressed += 1
        self.changed.notify_all()
        try:
            yield
        finally:
            self._pressed -= 1

    async def _give_late(self) -> None:
        try:
            while self._late:
                await self._hand_over(self._late.popleft())
        except Exception as error:
            self._fault = error
            self._late.clear()
        finally:
            self._giver = None
            await self.wake()

    async def _hand_over(self, item: Item) -> None:
        kinds = ("audio",) if isinstance(item, Audio) else (item["type"], "*")
        for handler in [handler for kind in kinds for handler in self._handlers.get(kind, ())]:
            outcome = handler(item)
            if inspect.isawaitable(outcome):
                await outcome
        async with self.changed:
            if isinstance(item, Audio):
                self.audio.append(item)
            else:
                await self._make_room()
                self.events.append(item)
            self.changed.notify_all()

    async def _make_room(self) -> None:
        await self.changed.wait_for(
            lambda: len(self.events) < EVENTS_MAX or not self._loops or self.ended is not None
        )
        if len(self.events) >= EVENTS_MAX and self.ended is None:
            self.events.popleft()

    @asynccontextmanager
    async def loop(self) -> AsyncIterator[None]:
        """While somebody takes events one by one."""
        self._loops += 1
        try:
            yield
        finally:
            self._loops -= 1
            await self.wake()

    async def take(self, queue: deque[Any]) -> Any:
        """The next of a queue. Nothing after the user's own goodbye; `Ended` when the server ended it."""
        async with self.changed:
            await self.changed.wait_for(lambda: queue or self._is_over())
            if queue:
                self.changed.notify_all()
                return queue.popleft()
        if self.ended is not None and not self.ended.by_user:
            raise self.ended
        return None

    def _is_over(self) -> bool:
        """Whether nothing more will be given."""
        return self.ended is not None and (self.ended.by_user or self._giver is None)

    async def wake(self) -> None:
        """Something has changed that is not an item."""
        async with self.changed:
            self.changed.notify_all()

    async def end(self, why: Ended) -> None:
        """There will be nothing more. What waits can still be taken."""
        self.ended = self.ended or why
        await self.wake()

    def stop(self) -> None:
        """The user has left: handlers hear no more. One that says so itself is not stopped by that."""
        self._late.clear()
        if self._giver is not None and self._giver is not asyncio.current_task():
            self._giver.cancel()
