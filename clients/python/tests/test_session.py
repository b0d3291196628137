"""The session by itself: against a room that is cut, drops and forgets at random."""

import random

import pytest

from voxhall import QueueFull
from voxhall.channels import matches
from voxhall.session import Numbers, Session

ROUNDS = 500


class Room:
    """A room with a history, and one member's connection to it. News of what was dropped is numbered and kept too."""

    def __init__(self, rng: random.Random, session: Session):
        self.rng, self.session = rng, session
        self.log: list[dict] = []
        self.kept_from = 1
        self.connected = False
        self.tokens = 0
        self.given: list[int] = []
        self.joined_at: int | None = None
        self.gaps = 0
        self.queue: list[dict] = []
        self.untold: list[int] = []
        self.questions: list[dict] = []

    def give(self, event: dict) -> None:
        if event["type"] == "session.created" and self.joined_at is None:
            self.joined_at = event["session"]["resume"]["seq"]
        taken = self.session.take(event)
        self.questions += taken.replies
        for one in taken.events:
            if one["type"] == "room.message":
                self.given.append(one["seq"])
            elif one["type"] == "session.restored" and not one["recovered"]:
                self.gaps += 1

    def connect(self) -> None:
        query = self.session.query()
        self.tokens += 1
        self.session.begin()
        self.connected = True
        resume = {"token": f"t{self.tokens}", "epoch": 1, "seq": len(self.log)}
        self.queue = [{"type": "session.created", "session": {"id": "c", "member": 1, "resume": resume}}]
        if query:
            self.restore(int(query["after"]))

    def restore(self, after: int) -> None:
        recovered = after + 1 >= self.kept_from
        assert after <= len(self.log)
        self.queue.append({"type": "session.restored", "recovered": recovered, "last_seq": len(self.log)})
        if recovered:
            self.queue += self.log[after:]

    def tell(self, event: dict) -> None:
        self.log.append({**event, "seq": len(self.log) + 1})
        if self.connected:
            self.queue.append(self.log[-1])

    def speak(self) -> None:
        self.tell({"type": "room.message"})
        if self.rng.random() < 0.02:
            self.kept_from = max(1, len(self.log) - 3)

    def drop(self) -> None:
        """Some messages of the lane give way."""
        gone = [one["seq"] for one in self.queue if one["type"] == "room.message" and self.rng.random() < 0.5]
        self.queue = [one for one in self.queue if one["type"] != "room.message" or one["seq"] not in gone]
        self.untold += gone

    def tell_drops(self) -> None:
        if self.untold:
            first, last = min(self.untold), max(self.untold)
            self.untold = []
            self.tell({"type": "outbox.dropped", "class": "droppable", "first_seq": first, "last_seq": last})

    def deliver(self, most: int) -> None:
        while self.queue and most > 0:
            most -= 1
            self.give(self.queue.pop(0))
            for question in self.questions:
                self.restore(question["after"])
            self.questions.clear()

    def cut(self) -> None:
        self.connected, self.queue = False, []
        self.session.lose()
        self.tell_drops()


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_every_message_comes_once_or_the_user_is_told(seed: int) -> None:
    rng = random.Random(seed)
    room = Room(rng, Session(queue_max=8))
    room.connect()
    for _ in range(200):
        act = rng.random()
        if not room.connected:
            room.speak() if act < 0.5 else room.connect()
        elif act < 0.5:
            room.speak()
        elif act < 0.85:
            room.deliver(rng.randint(1, 5))
        elif act < 0.90:
            room.drop()
        elif act < 0.95:
            room.tell_drops()
        else:
            room.cut()
    if not room.connected:
        room.connect()
    while room.queue or room.untold:
        room.tell_drops()
        room.deliver(100)
    assert len(set(room.given)) == len(room.given), "twice"
    said = {one["seq"] for one in room.log if one["type"] == "room.message" and one["seq"] > room.joined_at}
    if not room.gaps:
        assert said == set(room.given), f"silent: {sorted(said - set(room.given))[:5]} of {len(room.log)}"


def test_a_number_that_is_too_old_to_tell_is_a_duplicate() -> None:
    numbers = Numbers()
    assert all(numbers.is_new(seq) for seq in range(1, 10_001))
    assert not numbers.is_new(10_000) and not numbers.is_new(1)
    numbers.begin_at(3)
    assert not numbers.is_new(3) and numbers.is_new(4) and numbers.position == 4


def test_the_queue_is_bounded_with_and_without_a_connection() -> None:
    session = Session(queue_max=1)
    session.push({"type": "a"})
    with pytest.raises(QueueFull):
        session.push({"type": "b"})
    assert not session.is_crowded
    session.begin()
    session.take({"type": "session.created", "session": {}})
    assert session.is_crowded and session.pop() == {"type": "a", "client_seq": 1}
    # What is on its way counts too, and goes only when the server has it.
    for n in range(2, 5):
        session.push({"type": "b"})
        assert (session.pop() or {})["client_seq"] == n
    assert session.is_crowded and session.outgoing.is_curious()
    with pytest.raises(QueueFull):
        session.push({"type": "c"})
    assert session.outgoing.ping() == {"type": "ping", "t": 4} and not session.outgoing.is_curious()
    # A pong of the user's own, whatever it says, is none of ours.
    session.take({"type": "pong", "t": 1_700_000_000})
    assert session.is_crowded
    session.take({"type": "pong", "t": 4})
    assert not session.is_crowded and session.outgoing.is_sure


def test_patterns() -> None:
    assert matches("user:7:*", "user:7:operation:1") and matches("a:*:c", "a:b:c") and matches("a:b", "a:b")
    assert not matches("user:7:*", "user:7") and not matches("a:*:c", "a:b:d") and not matches("a", "a:b")


def test_what_a_room_has_no_more_is_a_gap() -> None:
    session = Session(queue_max=1)
    session.begin()
    session.take({"type": "session.created", "session": {"resume": {"token": "t", "seq": 7}}})
    session.lose()
    session.begin()
    session.take({"type": "session.created", "session": {"resume": {"token": "u", "seq": 3}}})
    taken = session.take({"type": "session.restored", "recovered": False, "reason": "room_ended", "last_seq": 3})
    assert [one["type"] for one in taken.events] == ["session.restored", "client.gap"]
    assert taken.events[1] == {"type": "client.gap", "channel": None, "after": 7, "reason": "room_ended"}


def test_a_server_that_comes_back_behind_is_given_numbers_that_follow() -> None:
    session = Session(queue_max=8)
    session.begin()
    session.take({"type": "session.created", "session": {"resume": {"token": "t", "seq": 0}}})
    for at in range(1, 6):
        session.push({"type": "a"})
        session.pop()
        if at == 4:
            session.take({"type": "pong", "t": session.outgoing.ping()["t"]})
    session.lose()
    session.push({"type": "b"})
    session.begin()
    session.take({"type": "session.created", "session": {"resume": {"token": "u", "seq": 0}}})
    session.take({"type": "session.restored", "recovered": True, "client_seq": 2})
    session.push({"type": "c"})
    sent = [session.pop() for _ in range(4)]
    assert sent == [{"type": kind, "client_seq": at} for kind, at in (("a", 3), ("b", 4), ("c", 5))] + [None]


def test_a_channel_that_is_asked_for_twice_keeps_its_place() -> None:
    session = Session(queue_max=1)
    session.begin()
    session.take({"type": "session.created", "session": {"resume": {"token": "t", "seq": 0}}})
    session.subscribe("user:7:*", None)
    session.take({"type": "channel.subscribed", "channel": "user:7:*", "id": "u-1", "offset": 1})
    message = {"type": "channel.message", "channel": "user:7:a", "id": "u-2", "offset": 2}
    assert session.take(message).events == [message]
    again = {"type": "channel.subscribe", "channel": "user:7:*", "after": "u-2"}
    assert session.subscribe("user:7:*", None) == again
    assert session.take(message).events == []
    session.lose()
    session.begin()
    session.take({"type": "session.created", "session": {"resume": {"token": "u", "seq": 0}}})
    assert session.take({"type": "session.restored", "recovered": True}).replies == [again]


def dropped(session: Session) -> None:
    session.begin()
    resume = {"token": "t", "epoch": 1, "seq": 0}
    session.take({"type": "session.created", "session": {"id": "c", "member": 1, "resume": resume}})
    session.take({"type": "room.message", "seq": 1, "data": 1})
    news = {"type": "outbox.dropped", "class": "droppable", "count": 1, "first_seq": 2, "last_seq": 2}
    asked = session.take(news).replies
    assert [one["after"] for one in asked] == [1]
    assert session.take({"type": "room.message", "seq": 3, "data": 3}).events == []


def refusal(retryable: bool) -> dict:
    return {"type": "error", "error": {"code": "recovery_under_way", "event_id": "filling", "retryable": retryable}}


def test_a_gap_that_is_asked_for_too_early_is_asked_for_again() -> None:
    session = Session(4)
    dropped(session)
    taken = session.take(refusal(retryable=True))
    assert (taken.events, [one["type"] for one in taken.replies]) == ([], ["ping"])
    taken = session.take({"type": "pong", "t": taken.replies[0]["t"]})
    assert (taken.events, [one["after"] for one in taken.replies]) == ([], [1])
    session.take({"type": "session.restored", "recovered": True, "missed": 2, "last_seq": 3})
    given = [session.take({"type": "room.message", "seq": seq, "data": seq}).events for seq in (2, 3)]
    assert [one["seq"] for events in given for one in events] == [2, 3]


def test_a_gap_that_is_not_told_again_holds_nothing_back() -> None:
    session = Session(4)
    dropped(session)
    taken = session.take(refusal(retryable=False))
    assert [one["type"] for one in taken.events] == ["session.restored", "client.gap", "room.message"]
