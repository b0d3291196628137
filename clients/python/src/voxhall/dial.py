"""Opens links: which way is taken, and what the server is told on it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Mapping

from .errors import LinkFailed, LinkRefused
from .links import Address, Link, WebSocketLink
from .sse import EventStreamLink, is_ready

# A WebSocket that has failed so often, although the server may well be there, is likely to be stopped on the way.
FAILURES_MAX = 2
PROBE_S = 3.0

# Refusals that a server gives over any link.
HONEST = frozenset({400, 401, 403, 408, 429})


class Dialer:
    """Knows the way to one room."""

    def __init__(
        self,
        url: str,
        room: str,
        query: Mapping[str, str],
        subprotocol: str,
        transport: str,
        tls: ssl.SSLContext | None,
    ):
        if transport not in ("auto", "websocket", "sse"):
            raise ValueError(f"no transport is called {transport!r}")
        self._address = Address(url, room)
        self._query = dict(query)
        self._subprotocol = subprotocol
        self._tls = tls
        self._auto = transport == "auto"
        self._failures = 0
        self._websocket_worked = False
        self.transport = "websocket" if self._auto else transport
        """The way that is taken now."""

    async def open(self, resume: Mapping[str, str], token: str | None) -> Link:
        """Opens one. May raise `LinkRefused` or `LinkFailed`."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        query = {**self._query, **resume}
        if self.transport == "sse":
            return await EventStreamLink.open(self._address, query, headers, self._tls)
        return await WebSocketLink.open(self._address.url("ws", query), self._subprotocol, headers, self._tls)

    def worked(self) -> None:
        """The server has welcomed the client: this way is open."""
        self._failures = 0
        self._websocket_worked = self._websocket_worked or self.transport == "websocket"

    async def failed(self, error: Exception | None = None) -> None:
        """No welcome came. Whether the way is to blame decides what is tried next: where a WebSocket does not get through, the
        fallback and the WebSocket take turns."""
        if isinstance(error, LinkRefused) and (error.status in HONEST or error.status >= 500):
            return
        if isinstance(error, LinkFailed) and not error.reached:
            return
        if not self._auto:
            return
        if self.transport == "sse":
            self.transport = "websocket"
            return
        self._failures += 1
        if self._failures >= FAILURES_MAX and (not self._websocket_worked or await self._is_ready()):
            self.transport = "sse"

    async def _is_ready(self) -> bool:
        try:
            return await asyncio.wait_for(is_ready(self._address, self._tls), PROBE_S)
        except asyncio.TimeoutError:
            return False

    def is_final(self, status: int) -> bool:
        """Whether a refusal means that coming back is of no use. What speaks no WebSocket may still serve events."""
        if status in (408, 429) or status >= 500:
            return False
        return status in HONEST or not (self._auto and self.transport == "websocket")
