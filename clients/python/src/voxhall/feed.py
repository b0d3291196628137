"""What a user is given: events and audio, to handlers and to loops."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import Any, Callable

from .codec import Audio, Item
from .errors import Ended

Handler = Callable[[Any], object]

# What waits for a user who iterates; for one who does not keep up nothing more is read, and the server sees that.
EVENTS_MAX = 1024
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
        self._iterated = False

    def on(self, kind: str, handler: Handler) -> Callable[[], None]:
        handlers = self._handlers.setdefault(kind, [])
        handlers.append(handler)
        return lambda: handlers.remove(handler)

    async def give(self, item: Item) -> None:
        """Gives something to the user. Waits for handlers, and for one who iterates and does not keep up."""
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
        if self._handlers and not self._iterated and len(self.events) >= EVENTS_MAX:
            # Handlers have had it, and nobody iterates.
            self.events.popleft()
        await self.changed.wait_for(lambda: len(self.events) < EVENTS_MAX or self.ended is not None)

    async def take(self, queue: deque[Any]) -> Any:
        """The next of a queue. Nothing after the user's own goodbye; `Ended` when the server ended it."""
        async with self.changed:
            self._iterated = self._iterated or queue is self.events
            await self.changed.wait_for(lambda: queue or self.ended is not None)
            if queue:
                self.changed.notify_all()
                return queue.popleft()
        if self.ended is not None and not self.ended.by_user:
            raise self.ended
        return None

    async def wake(self) -> None:
        """Something has changed that is not an item."""
        async with self.changed:
            self.changed.notify_all()

    async def end(self, why: Ended) -> None:
        """There will be nothing more. What waits can still be taken."""
        self.ended = self.ended or why
        await self.wake()
