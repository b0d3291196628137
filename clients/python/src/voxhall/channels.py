"""What the user has subscribed to, and how far each was heard: enough to subscribe again on a new connection."""

from __future__ import annotations

from typing import Iterator, Union

from .codec import Event

# Messages of a subscription whose names are remembered, so that none is given twice.
SEEN_MAX = 1024

Position = Union[str, int]


class Subscription:
    """A channel, or a pattern of them, that the user wants."""

    def __init__(self, channel: str, after: Position | None):
        self.channel = channel
        self.after = after
        """The position of the last message, or where the subscription began."""
        self.one_stream: bool | None = None
        """A pattern may name several streams, which have no common position: the server says which. Nothing before it has."""
        self.catches_up = False
        """What was lost on the way is asked for: until there is an answer, later messages are no position."""
        self._seen: dict[tuple[object, Position], None] = {}

    @property
    def request(self) -> Event:
        return subscribe_event(self.channel, None if self.one_stream is False else self.after)

    def begun(self, event: Event) -> Event | None:
        """The subscription has begun, or something of it is lost; gives the request or the gap that comes of that. The
        position is behind what was missed, if that is still to come."""
        position = event.get("id", event.get("offset"))
        self.one_stream = position is not None
        lost = event.get("recovered") is False
        if lost and event.get("reason") == "overloaded" and self.one_stream and self.after is not None:
            # Lost between shards; the history may have it.
            self.catches_up = True
            return self.request
        self.catches_up = False
        gap = gap_event(self.channel, self.after, event.get("reason")) if lost else None
        if position is not None and not (event.get("recovered") is True and event.get("missed")):
            self.after = position
        return gap

    def take(self, message: Event) -> bool:
        """Whether the message is new here."""
        position = message.get("id", message.get("offset"))
        if position is None:
            return True
        # Two streams may both have a message of this id.
        name = (message.get("channel"), position)
        if name in self._seen:
            return False
        self._seen[name] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        if not self.catches_up:
            self.after = position
        return True


class Subscriptions:
    """All of one session."""

    def __init__(self) -> None:
        self._all: dict[str, Subscription] = {}
        self._given_up: set[str] = set()

    def add(self, channel: str, after: Position | None) -> Event:
        """The request that has to be made for it."""
        self._given_up.discard(channel)
        self._all[channel] = Subscription(channel, after)
        return self._all[channel].request

    def remove(self, channel: str, told: bool) -> None:
        """It is not wanted any more. Unless the server is `told`, it has to be on the next connection."""
        self._all.pop(channel, None)
        if not told:
            self._given_up.add(channel)

    def again(self) -> Iterator[Event]:
        """What to ask on a new connection, and the gaps: what was missed of several streams nobody can say."""
        yield from map(unsubscribe_event, self._given_up)
        self._given_up.clear()
        for subscription in self._all.values():
            yield subscription.request
            if subscription.one_stream is False:
                yield gap_event(subscription.channel, None, "several_streams")

    def begun(self, event: Event) -> Event | None:
        """`channel.subscribed` has come; gives the request or the gap that comes of it."""
        subscription = self._all.get(str(event.get("channel")))
        if subscription is not None:
            return subscription.begun(event)
        # By its token; nobody here has asked for it.
        lost = event.get("recovered") is False
        return gap_event(event.get("channel"), None, event.get("reason")) if lost else None

    def take(self, message: Event) -> bool:
        """Whether a message is new to one of those that it is for."""
        channel = message.get("channel")
        if not isinstance(channel, str):
            return True
        theirs = [one for pattern, one in self._all.items() if matches(pattern, channel)]
        fresh = [one for one in theirs if one.take(message)]
        # A token may subscribe too, and then nobody here has asked for it.
        return bool(fresh) or not theirs


def subscribe_event(channel: str, after: Position | None) -> Event:
    event: Event = {"type": "channel.subscribe", "channel": channel}
    return event if after is None else {**event, "after": after}


def unsubscribe_event(channel: str) -> Event:
    return {"type": "channel.unsubscribe", "channel": channel}


def gap_event(channel: object, after: Position | None, reason: object) -> Event:
    """Something is lost to the user: messages of a channel, or where that is none, events of the room."""
    return {"type": "client.gap", "channel": channel, "after": after, "reason": reason or "unknown"}


def matches(pattern: str, channel: str) -> bool:
    """Whether a subscription has a channel: `*` is one segment, at the end the rest."""
    wanted, parts = pattern.split(":"), channel.split(":")
    for at, segment in enumerate(wanted):
        if segment == "*" and at == len(wanted) - 1:
            return len(parts) > at
        if at >= len(parts) or segment not in ("*", parts[at]):
            return False
    return len(parts) == len(wanted)
