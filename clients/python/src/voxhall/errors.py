"""What can go wrong for a user, and what a link says of its end."""

from __future__ import annotations


class VoxhallError(Exception):
    """Anything this package raises."""


class QueueFull(VoxhallError):
    """There is no connection, and as much waits for one as may."""


class Ended(VoxhallError):
    """The client will not come back by itself: the server's close code, or the status of its refusal, says why."""

    def __init__(
        self, reason: str, *, code: int | None = None, status: int | None = None, by_user: bool = False
    ):
        super().__init__(reason)
        self.reason, self.code, self.status, self.by_user = reason, code, status, by_user


class LinkClosed(Exception):
    """A connection is over; 1006 where nobody said goodbye."""

    def __init__(self, code: int, reason: str = "", retry_after_s: float | None = None):
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code, self.reason, self.retry_after_s = code, reason, retry_after_s


class TooBig(Exception):
    """The server takes no message of this size; the connection stands."""

    def __init__(self, message: str | bytes):
        super().__init__(f"{len(message)} bytes are too many")
        self.message = message


class LinkRefused(Exception):
    """The server answered, but not with a connection."""

    def __init__(self, status: int, retry_after_s: float | None, reason: str = ""):
        super().__init__(f"refused with {status} {reason}".rstrip())
        self.status, self.retry_after_s, self.reason = status, retry_after_s, reason


class LinkFailed(Exception):
    """No connection came about. `reached`: something listened at the address."""

    def __init__(self, reason: str, *, reached: bool):
        super().__init__(reason)
        self.reached = reached


class Unreadable(Exception):
    """A message that no server of this protocol sends."""
