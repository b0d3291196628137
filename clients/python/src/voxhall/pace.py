"""How fast one connection may be written to, so that the server refuses nothing."""

from __future__ import annotations

from typing import Any


class Pace:
    """What the server takes of one connection (`limits` of its welcome), counted as it does: what is sent is a debt that time
    pays back. A quarter of its burst goes at once, and half of it may be on its way: a network that stood still may bring both
    together."""

    def __init__(self, limits: dict[str, Any], now: float):
        messages_per_s, burst = _number(limits, "messages_per_s"), _number(limits, "messages_burst")
        bytes_per_s, message_bytes = _number(limits, "bytes_per_s"), _number(limits, "message_bytes_max")
        self.window = max(1, burst // 2) if messages_per_s else None
        """How many events may be on their way, not known to have been taken."""
        self._message_s = 1 / messages_per_s if messages_per_s else 0.0
        self._byte_s = 1 / bytes_per_s if bytes_per_s else 0.0
        # Debts in seconds, and how high they may be when something more is sent.
        self._messages = self._bytes = 0.0
        self._messages_max = max(1, burst // 4) * self._message_s
        self._bytes_max = (bytes_per_s + message_bytes) * self._byte_s / 4
        self._portion = max(1, burst // 40) * self._message_s
        self._at = now

    def wait_s(self, now: float) -> float:
        """How long nothing should be sent, until a few may go together."""
        self._pass(now)
        rest = 0.0
        if self._messages + self._message_s > self._messages_max + 1e-6:
            rest = max(rest, self._messages + self._portion - self._messages_max)
        return max(rest, self._bytes - self._bytes_max)

    def pay(self, now: float, size: int) -> None:
        """A message of so many bytes goes out."""
        self._pass(now)
        self._messages += self._message_s
        self._bytes += size * self._byte_s

    def _pass(self, now: float) -> None:
        paid, self._at = now - self._at, now
        self._messages = max(0.0, self._messages - paid)
        self._bytes = max(0.0, self._bytes - paid)


def _number(limits: dict[str, Any], key: str) -> int:
    value = limits.get(key)
    return value if isinstance(value, int) and value > 0 else 0
