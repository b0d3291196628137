"""Time, which tests replace."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What a client knows of time. Each wait has a name; clients/cases/README.md lists them."""

    def now(self) -> float:
        """Seconds since some beginning; never runs backwards."""

    async def sleep(self, name: str, seconds: float) -> None:
        """Returns when so many seconds are over."""


class SystemClock:
    """The real one."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
