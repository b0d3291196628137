"""The user's events in the order of their numbers (`client_seq`), each until the server is known to have taken it; and audio, in its
place among them."""

from __future__ import annotations

from collections import deque
from typing import Union

from .codec import Event
from .errors import QueueFull

# What was sent, and is not yet known to have been taken, may be so many times as much as what waits to be sent.
SENT_TIMES = 4


class Outgoing:
    """What one client has still to say."""

    def __init__(self, queue_max: int):
        self._queue_max = queue_max
        self._unsent: deque[Union[Event, bytes]] = deque()
        self._sent: deque[Event] = deque()
        self._last = 0
        self._last_sent = 0
        self._pings: deque[int] = deque()

    @property
    def is_full(self) -> bool:
        """Whether there is no room. Nothing that was accepted is ever pushed out by what comes later."""
        waiting = len(self._unsent)
        return waiting >= self._queue_max or waiting + len(self._sent) >= SENT_TIMES * self._queue_max

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to be sent."""
        return bool(self._unsent)

    def is_within(self, window: int | None) -> bool:
        """Whether one more may be on its way."""
        return window is None or len(self._sent) < window

    @property
    def is_sure(self) -> bool:
        """Whether the server has taken all that was sent."""
        return not self._sent

    def is_curious(self, window: int | None = None) -> bool:
        """Whether so much was sent that it is time to ask what has arrived."""
        much = len(self._sent) * 4 > self._queue_max or (window is not None and len(self._sent) * 2 > window)
        return much and not self._pings

    def push(self, event: Event) -> None:
        """Numbers an event, and lets it wait for its turn."""
        if self.is_full:
            kept = f"{len(self._unsent)} events wait to be sent, {len(self._sent)} to be taken by the server"
            raise QueueFull(f"{kept}: there is no room for another")
        self._last += 1
        self._unsent.append({**event, "client_seq": self._last})

    def push_audio(self, payload: bytes) -> None:
        self._unsent.append(payload)

    @property
    def next(self) -> Event | bytes | None:
        """What `pop` would give."""
        return self._unsent[0] if self._unsent else None

    def pop(self) -> Event | bytes | None:
        """What is next to be sent; from now on it has been."""
        if not self._unsent:
            return None
        event = self._unsent.popleft()
        if not isinstance(event, bytes):
            self._sent.append(event)
            self._last_sent = event["client_seq"]
        return event

    def ping(self) -> Event:
        """Asks for a sign of life, which also says what has arrived: its `t` is the last number that was sent before."""
        self._pings.append(self._last_sent)
        return {"type": "ping", "t": self._last_sent}

    def pong(self, t: object) -> None:
        """An answer, if it is one to a question from here: users may ask by themselves."""
        if not isinstance(t, int) or t not in self._pings:
            return
        while self._pings.popleft() != t:
            pass
        self.taken(t)

    def taken(self, client_seq: int) -> None:
        """The server has taken everything up to this number."""
        while self._sent and self._sent[0]["client_seq"] <= client_seq:
            self._sent.popleft()

    def lose(self) -> None:
        """The connection is gone. Speech that is late is of no use, and nobody will answer."""
        self._unsent = deque(one for one in self._unsent if not isinstance(one, bytes))
        self._pings.clear()

    def settle(self, client_seq: int) -> None:
        """The server has taken everything up to this number and nothing else: the rest goes again, in numbers that follow. It
        may have taken more before it was killed; then those of what it has lost are missing between them."""
        self.taken(client_seq)
        self._send_again()
        self._number_from(client_seq)

    def give_up(self, client_seq: int) -> list[Event]:
        """The server has taken everything before this one, and never will take this one: the rest follows without it."""
        gone = [event for event in self._sent if event["client_seq"] == client_seq]
        self._sent = deque(event for event in self._sent if event["client_seq"] != client_seq)
        self.settle(client_seq - 1)
        return gone

    def _send_again(self) -> None:
        if self._sent:
            self._last_sent = self._sent[0]["client_seq"] - 1
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()

    def begin_anew(self) -> list[Event]:
        """To the server this is somebody new, whose numbers begin at 1. Gives up what was sent and may or may not have been
        taken."""
        gone = list(self._sent)
        self._sent.clear()
        self._number_from(0)
        return gone

    def _number_from(self, client_seq: int) -> None:
        self._last = self._last_sent = client_seq
        for at, event in enumerate(self._unsent):
            if not isinstance(event, bytes):
                self._last += 1
                self._unsent[at] = {**event, "client_seq": self._last}
