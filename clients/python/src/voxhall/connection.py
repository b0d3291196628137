"""One connection of a session, from the first byte to its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass
from typing import Awaitable, Callable, Coroutine

from .clock import Clock
from .codec import Event, append_event, codec_of, size_of
from .errors import LinkClosed, TooBig, Unreadable
from .links import Link
from .pace import Pace
from .session import Phase, Session, is_refusal

CONNECT_S = 10.0
STABLE_S = 10.0
# Somewhat less than the server's own pings, and than what routers on the way forget.
PING_S = 20.0
SILENCE_S = 10.0
# How long events may be on their way before the server is asked for them.
CONFIRM_S = 2.0

# Events that go in one request, where they go in requests.
TOGETHER_MAX = 64
TOGETHER_BYTES_MAX = 256 * 1024

CUT = 1006
# Codes of our own, for whoever reads the server's log.
MOVING = 4001
UNREADABLE = 4002
TOO_FAST = 4004


@dataclass(frozen=True)
class Outcome:
    """How it ended."""

    code: int
    reason: str
    goodbye: int | None = None
    """The code to leave with, where it is this side that leaves."""
    retry_after_s: float = 0.0
    """When to come back at the earliest."""

    @property
    def moves(self) -> bool:
        """Whether the server asked to come back, and the time that it named is over."""
        return self.code == MOVING


class Connection:
    """Reads, writes and watches one link. Each part is a task; the first that has an outcome ends all."""

    def __init__(
        self,
        link: Link,
        session: Session,
        clock: Clock,
        give: Callable[..., Awaitable[None]],
        on_sent: Callable[[], Awaitable[None]],
        on_stable: Callable[[], None],
    ):
        self._link, self._session, self._clock = link, session, clock
        self._give, self._on_sent, self._on_stable = give, on_sent, on_stable
        self._codec = codec_of(link.subprotocol)
        self._pace = Pace({}, clock.now())
        self._resting = False
        self._fresh_token: str | None = None
        self._replies: deque[Event] = deque()
        self._more = asyncio.Event()
        self._sent = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._heard = 0
        self._heard_at = clock.now()
        self._giving = False
        self._confirming = False
        self._parts: set[asyncio.Task[None]] = set()
        self._end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def was_welcomed(self) -> bool:
        return self._welcomed.is_set()

    async def run(self, deadline: asyncio.Task[None]) -> Outcome:
        """To its end. There must be a welcome before `deadline` is done."""
        self._session.begin()
        for work in (self._read(), self._write(), self._watch(), self._expect_welcome(deadline)):
            self._start(work)
        try:
            outcome = await self._end
            if outcome.goodbye is not None:
                await self._link.close(outcome.goodbye, outcome.reason)
            return outcome
        finally:
            self._session.lose()
            self._sent.set()
            for part in self._parts:
                part.cancel()
            await asyncio.gather(*self._parts, return_exceptions=True)
            self._link.abort()

    async def close(self, code: int, reason: str) -> None:
        """Says goodbye, once the link has taken what waits."""
        while (self._replies or self._session.has_waiting) and not self._end.done():
            self._sent.clear()
            self.wake()
            await self._sent.wait()
        with contextlib.suppress(LinkClosed):
            await self._link.close(code, reason)

    def wake(self) -> None:
        """There is more to send."""
        self._more.set()

    def reply(self, event: Event) -> None:
        """Sends something before all that waits."""
        self._replies.append(event)
        self.wake()

    def refresh(self, token: str) -> None:
        """Shows the server a fresh token."""
        self._fresh_token = token
        self.reply({"type": "session.update", "token": token})

    def _start(self, work: Coroutine[None, None, Outcome | None]) -> None:
        self._parts.add(asyncio.create_task(self._play(work)))

    async def _play(self, work: Coroutine[None, None, Outcome | None]) -> None:
        try:
            outcome = await work
        except LinkClosed as closed:
            outcome = Outcome(closed.code, closed.reason, retry_after_s=closed.retry_after_s or 0.0)
        except Unreadable as unreadable:
            outcome = Outcome(CUT, str(unreadable), goodbye=UNREADABLE)
        except Exception as error:
            if not self._end.done():
                self._end.set_exception(error)
            return
        if outcome is not None:
            self._end_with(outcome)

    def _end_with(self, outcome: Outcome) -> None:
        if not self._end.done():
            self._end.set_result(outcome)

    async def _read(self) -> None:
        while True:
            message = await self._link.receive()
            self._heard += 1
            self._heard_at = self._clock.now()
            self._giving = True
            for item in self._codec.read(message):
                if isinstance(item, dict):
                    await self._take(item)
                else:
                    await self._give(item)
            self._giving = False

    async def _take(self, event: Event) -> None:
        taken = self._session.take(event)
        self._replies.extend(taken.replies)
        if event["type"] == "session.created":
            limits = self._session.welcome.get("limits")
            self._pace = Pace(limits if isinstance(limits, dict) else {}, self._clock.now())
            self._link.identify(str(self._session.welcome.get("id", "")))
            self._welcomed.set()
        elif event["type"] == "session.draining":
            self._start(self._move(event.get("reconnect_in_ms")))
        self.wake()
        # All at once: they count as given, whatever becomes of this connection meanwhile.
        await self._give(*taken.events)
        if is_refusal(event) and not self._session.outgoing.is_sure:
            # Some of what was sent is refused, some may be taken later, and no pong can say which. A new connection is told
            # what was taken last, before a later number hides that those before it are missing.
            self._end_with(Outcome(CUT, "more was sent than the server takes at once", goodbye=TOO_FAST))

    async def _write(self) -> None:
        while True:
            self._more.clear()
            await self._send_waiting()
            await self._on_sent()
            self._sent.set()
            self._ask_what_arrived()
            self._come_back_to_it()
            await self._more.wait()

    async def _send_waiting(self) -> None:
        while messages := self._take_waiting():
            token, self._fresh_token = self._fresh_token, None
            try:
                confirmed = await self._link.send(messages)
            except TooBig as too_big:
                await self._give_up(too_big)
                continue
            if token is not None:
                self._link.renew(token)
            if confirmed is not None:
                self._session.outgoing.taken(confirmed)

    async def _give_up(self, too_big: TooBig) -> None:
        """What is never taken must not be in the way of the rest."""
        seq = json.loads(too_big.message).get("client_seq")
        if seq is None:
            raise LinkClosed(CUT, f"the uplink: {too_big}")
        events = self._session.outgoing.give_up(seq)
        await self._give({"type": "client.unconfirmed", "events": events, "reason": "too_big"})

    def _ask_what_arrived(self) -> None:
        """Who sends much learns in time what has arrived, and everybody after a while."""
        outgoing = self._session.outgoing
        if self._session.phase is not Phase.LIVE:
            return
        if outgoing.is_curious(self._pace.window):
            self.reply(outgoing.ping())
        if not outgoing.is_sure and not self._confirming:
            self._confirming = True
            self._start(self._confirm())

    async def _confirm(self) -> None:
        while not self._session.outgoing.is_sure:
            await self._clock.sleep("confirm", CONFIRM_S)
            if not self._session.outgoing.is_sure:
                self.reply(self._session.outgoing.ping())
        self._confirming = False

    def _come_back_to_it(self) -> None:
        """More waits than may be sent at once. (Where too much is on its way, an answer wakes this.)"""
        rest_s = self._pace.wait_s(self._clock.now())
        # What is said first counts too.
        waits = self._session.has_waiting and not self._replies
        if rest_s > 0 and waits and self._is_within_window and not self._resting:
            self._resting = True
            self._start(self._rest(rest_s))

    async def _rest(self, seconds: float) -> None:
        await self._clock.sleep("pace", seconds)
        self._resting = False
        self.wake()

    def _take_waiting(self) -> list[str | bytes]:
        """What is next to be sent, and can go together."""
        messages: list[str | bytes] = []
        while self._replies:
            self._put(self._codec.event(self._replies.popleft()), messages)
        size = sum(map(size_of, messages))
        while len(messages) < TOGETHER_MAX and self._may_send() and (waiting := self._session.next) is not None:
            message = self._form(waiting)
            size += size_of(message)
            if messages and size > TOGETHER_BYTES_MAX:
                break
            self._session.pop()
            self._put(message, messages)
        return messages

    def _may_send(self) -> bool:
        """Whether the user's next event may go: what was sent and refused would have to go again."""
        return self._pace.wait_s(self._clock.now()) <= 0 and self._is_within_window

    @property
    def _is_within_window(self) -> bool:
        return self._session.outgoing.is_within(self._pace.window)

    def _put(self, message: str | bytes, messages: list[str | bytes]) -> None:
        self._pace.pay(self._clock.now(), size_of(message))
        messages.append(message)

    def _form(self, waiting: Event | bytes) -> str | bytes:
        if isinstance(waiting, bytes) and self._link.takes_bytes:
            return self._codec.audio(waiting)
        return self._codec.event(append_event(waiting) if isinstance(waiting, bytes) else waiting)

    async def _expect_welcome(self, deadline: asyncio.Task[None]) -> Outcome | None:
        welcome = asyncio.create_task(self._welcomed.wait())
        try:
            await asyncio.wait((welcome, deadline), return_when=asyncio.FIRST_COMPLETED)
        finally:
            welcome.cancel()
            deadline.cancel()
        if not self._welcomed.is_set():
            return Outcome(CUT, "no welcome came")
        await self._clock.sleep("stable", STABLE_S)
        self._on_stable()
        return None

    async def _watch(self) -> Outcome:
        """Ends when the server says nothing for too long, asked or not. Who is slow to take events does not listen."""
        while True:
            rest = self._heard_at + PING_S - self._clock.now()
            if rest > 0 or self._giving:
                await self._clock.sleep("ping", max(rest, 0.0) or PING_S)
                continue
            heard = self._heard
            self.reply(self._session.outgoing.ping())
            await self._clock.sleep("silence", SILENCE_S)
            if self._heard == heard and not self._giving:
                return Outcome(CUT, "nothing came for too long")

    async def _move(self, reconnect_in_ms: object) -> Outcome | None:
        if not isinstance(reconnect_in_ms, (int, float)):
            return None
        await self._clock.sleep("draining", max(0, reconnect_in_ms) / 1000)
        return Outcome(MOVING, "moving", goodbye=MOVING)
