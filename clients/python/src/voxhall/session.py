"""What a client knows of its session: where it stands in the room's events, and what it has still to say.

No socket, no clock, no task: events go in, and what is to be done comes out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from .channels import Position, Subscriptions, gap_event, unsubscribe_event
from .codec import Event
from .outgoing import Outgoing

# Numbers remembered, so that nothing is given to the user twice: far more than a room keeps.
RECENT_MAX = 8192
# Events held back while a gap is being filled; more than a lane holds.
HELD_MAX = 8192
# The name of the question for what was dropped, and of the ping behind which it is asked again.
FILLING = "filling"


class Phase(Enum):
    """Where a connection stands."""

    AWAY = auto()
    GREETING = auto()
    RESTORING = auto()
    LIVE = auto()


@dataclass
class Taken:
    """What came of an event."""

    events: list[Event] = field(default_factory=list)
    """For the user, in order."""
    replies: list[Event] = field(default_factory=list)
    """To be sent before anything that waits."""

    def add(self, *events: Event | None) -> None:
        """Gaps are for the user, and requests for the server."""
        for event in filter(None, events):
            (self.events if event["type"] == "client.gap" else self.replies).append(event)


class Numbers:
    """Which numbered events the user has been given."""

    def __init__(self) -> None:
        self.position = 0
        """Everything up to here has been given, or never will be."""
        self._known: set[int] = set()
        self._order: deque[int] = deque()
        self._floor = 0

    def begin_at(self, seq: int) -> None:
        """A numbering of which nothing up to here is known."""
        self.position = self._floor = seq
        self._known.clear()
        self._order.clear()

    def is_new(self, seq: int) -> bool:
        """Notes a number: false if it was noted before, or is too old to tell."""
        self.position = max(self.position, seq)
        if seq in self._known or seq <= self._floor:
            return False
        self._known.add(seq)
        self._order.append(seq)
        if len(self._order) > RECENT_MAX:
            oldest = self._order.popleft()
            self._known.discard(oldest)
            self._floor = max(self._floor, oldest)
        return True


class Session:
    """One member of a room, across all of its connections."""

    def __init__(self, queue_max: int):
        self.id: str | None = None
        self.member: int | None = None
        self.state: Event = {}
        self.phase = Phase.AWAY
        self.subscriptions = Subscriptions()
        self.outgoing = Outgoing(queue_max)
        self._token: str | None = None
        self.welcome: Event = {}
        """The `session` of the present connection's welcome."""
        self.message_bytes_max: int | None = None
        """What the server takes as one message, as far as it has said."""
        self._numbers = Numbers()
        self._held: list[Event] | None = None
        self._asked_after = 0
        # What the last restoration told again: everything behind the first number, up to the second.
        self._replayed = (0, 0)

    # Connections come and go.

    def query(self) -> dict[str, str]:
        """What a new connection has to bring to go on with this session."""
        if self._token is None:
            return {}
        return {"resume": self._token, "after": str(self._numbers.position)}

    def begin(self) -> None:
        """A connection stands, and has said nothing yet."""
        self.phase = Phase.GREETING

    def lose(self) -> None:
        """It is over."""
        self.phase = Phase.AWAY
        self.welcome = {}
        self.outgoing.lose()

    # Events from the server.

    def take(self, event: Event) -> Taken:
        """Takes an event in the order of arrival."""
        taken = Taken()
        kind = event["type"]
        if self.phase is Phase.RESTORING and kind != "session.restored":
            unanswered = {"type": "session.restored", "recovered": False, "reason": "unanswered"}
            self._restored({**unanswered, "last_seq": _resume(self.welcome).get("seq", 0)}, taken)
        if kind == "session.created":
            self._created(event, taken)
        elif kind == "session.restored":
            self._restored(event, taken)
        elif kind == "channel.message":
            if self.subscriptions.take(event):
                taken.events.append(event)
        elif kind == "channel.subscribed":
            taken.events.append(event)
            taken.add(self.subscriptions.begun(event))
        elif isinstance(event.get("seq"), int):
            self._numbered(event, taken)
        else:
            taken.events.append(event)
        self._learn(event, taken)
        return taken

    def _created(self, event: Event, taken: Taken) -> None:
        self.welcome = session = _object(event.get("session"))
        most = _object(session.get("limits")).get("message_bytes_max")
        self.message_bytes_max = most if isinstance(most, int) else None
        taken.events.append(event)
        if self._token is not None:
            self.phase = Phase.RESTORING
            return
        self._adopt()
        self._numbers.begin_at(_resume(session).get("seq", 0))
        self._go_live(None, taken)

    def _restored(self, event: Event, taken: Taken) -> None:
        held, self._held = self._held or [], None
        coming_back = self.phase is Phase.RESTORING
        recovered = event.get("recovered") is True
        after = self._numbers.position if coming_back else self._asked_after
        self._replayed = (after, _int(event.get("last_seq"), 0)) if recovered else (0, 0)
        # What was held back comes again, or is all that there is. Of an earlier numbering it precedes the news.
        held = [] if recovered else [one for one in held if self._numbers.is_new(one["seq"])]
        if not recovered and coming_back:
            self._numbers.begin_at(_int(event.get("last_seq"), 0))
        if "state" in event:
            self.state = _object(event["state"])
        gap = [] if recovered else [gap_event(None, after, event.get("reason"))]
        taken.events.extend([*held, event, *gap] if coming_back else [event, *gap, *held])
        if coming_back:
            self._adopt()
            confirmed = event.get("client_seq")
            self._go_live(_int(confirmed, 0) if recovered or confirmed is not None else None, taken)

    def _adopt(self) -> None:
        """From now on the present connection is the one to come back from."""
        token = _resume(self.welcome).get("token")
        self._token = token if isinstance(token, str) else None
        self.id = self.welcome.get("id", self.id)
        self.member = self.welcome.get("member", self.member)

    def _go_live(self, confirmed: int | None, taken: Taken) -> None:
        self.phase = Phase.LIVE
        taken.add(*self.subscriptions.again())
        if confirmed is not None:
            self.outgoing.settle(confirmed)
        elif unconfirmed := self.outgoing.begin_anew():
            taken.events.append({"type": "client.unconfirmed", "events": unconfirmed})

    def _numbered(self, event: Event, taken: Taken) -> None:
        if self._held is None:
            if self._numbers.is_new(event["seq"]):
                taken.events.append(event)
        elif len(self._held) < HELD_MAX:
            self._held.append(event)
        else:
            # No answer will come. Better out of order than not at all.
            fresh = (one for one in [*self._held, event] if self._numbers.is_new(one["seq"]))
            taken.events.extend(fresh)
            self._held = None

    def _learn(self, event: Event, taken: Taken) -> None:
        kind = event["type"]
        if kind in ("session.created", "session.updated"):
            session = _object(event.get("session"))
            # A welcome without one is that of a room that has none.
            if "state" in session or kind == "session.created":
                self.state = _object(session.get("state"))
        elif kind == "pong" and event.get("t") == FILLING and self._held is not None:
            taken.events.remove(event)
            self._ask(taken)
        elif kind == "pong":
            self.outgoing.pong(event.get("t"))
        elif kind == "error" and self._held is not None:
            self._not_filled(event, taken)
        elif kind == "outbox.dropped" and event.get("class") != "audio" and event in taken.events:
            self._ask_for(event, taken)

    def _ask_for(self, news: Event, taken: Taken) -> None:
        """Asks for what was dropped, and holds back what comes meanwhile, because it comes again behind it."""
        first = news.get("first_seq")
        if not isinstance(first, int) or self._token is None:
            return
        # News that is itself told again, of something that has been told again with it.
        after, upto = self._replayed
        if first > after and _int(news.get("seq"), upto + 1) <= upto:
            return
        if self._held is not None and first > self._asked_after:
            return
        self._held = self._held or []
        self._numbers.position = self._asked_after = min(self._numbers.position, first - 1)
        self._ask(taken)

    def _ask(self, taken: Taken) -> None:
        taken.replies.append({"type": "session.update", "event_id": FILLING, "after": self._asked_after})

    def _not_filled(self, event: Event, taken: Taken) -> None:
        error = _object(event.get("error"))
        if error.get("event_id") != FILLING:
            return
        taken.events.remove(event)
        if error.get("retryable") is True:
            # What was asked for before is still on its way. A pong comes behind it.
            taken.replies.append({"type": "ping", "t": FILLING})
        else:
            self._restored({"type": "session.restored", "recovered": False, "reason": "unanswered"}, taken)

    # Events of the user.

    def subscribe(self, channel: str, after: Position | None) -> Event | None:
        """Notes that a channel is wanted; gives what has to be sent now."""
        request = self.subscriptions.add(channel, after)
        return request if self.phase is Phase.LIVE else None

    def unsubscribe(self, channel: str) -> Event | None:
        """Notes that it is not any more."""
        live = self.phase is Phase.LIVE
        self.subscriptions.remove(channel, told=live)
        return unsubscribe_event(channel) if live else None

    def push(self, event: Event) -> None:
        """Accepts an event."""
        self.outgoing.push(event)

    @property
    def is_crowded(self) -> bool:
        """Whether who has a connection should wait before sending more."""
        return self.phase is Phase.LIVE and self.outgoing.is_full

    def push_audio(self, payload: bytes) -> None:
        """Audio, in its place among the events; dropped where it could not go at once."""
        if self.phase is Phase.LIVE:
            self.outgoing.push_audio(payload)

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to be sent now."""
        return self.phase is Phase.LIVE and self.outgoing.has_waiting

    @property
    def next(self) -> Event | bytes | None:
        """What `pop` would give."""
        return self.outgoing.next if self.phase is Phase.LIVE else None

    def pop(self) -> Event | bytes | None:
        """What is next to be sent now."""
        return self.outgoing.pop() if self.phase is Phase.LIVE else None


def is_refusal(event: Event) -> bool:
    """Whether the server takes nothing more of this connection, because it was too much."""
    code = _object(event.get("error")).get("code")
    return event["type"] == "error" and "seq" not in event and code == "rate_limit_exceeded"


def _resume(session: Event) -> dict[str, Any]:
    return _object(session.get("resume"))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _int(value: object, default: int) -> int:
    return value if isinstance(value, int) else default
