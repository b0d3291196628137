"""Time in which nothing waits."""

import asyncio


class CaseClock:
    """The back-off is over at once and noted, unless it is held; other timers are over when somebody fires them."""

    def __init__(self, hold: list[str]):
        self.delays_ms: list[int] = []
        self._now = 0.0
        self._auto = {"backoff"} - set(hold)
        self._pending: list[tuple[str, float, asyncio.Future[None]]] = []
        self._changed = asyncio.Condition()

    def now(self) -> float:
        return self._now

    async def sleep(self, name: str, seconds: float) -> None:
        if name == "backoff":
            self.delays_ms.append(int(seconds * 1000))
        if name in self._auto:
            self._now += seconds
            await asyncio.sleep(0)
            return
        timer = (name, self._now + seconds, asyncio.get_running_loop().create_future())
        self._pending.append(timer)
        try:
            async with self._changed:
                self._changed.notify_all()
            await timer[2]
        finally:
            self._pending.remove(timer)

    async def fire(self, name: str) -> None:
        """Waits until a timer of this name runs, and lets its time be over."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._running(name))
        _, at, future = self._running(name)[0]
        self._now = max(self._now, at)
        future.set_result(None)

    def _running(self, name: str) -> list[tuple[str, float, asyncio.Future[None]]]:
        return sorted((timer for timer in self._pending if timer[0] == name and not timer[2].done()), key=lambda t: t[1])
