"""Opens links: which way is taken, and what the server is told on it."""

from __future__ import annotations

import ssl
from typing import Mapping

from .errors import LinkFailed, LinkRefused
from .links import Address, Link, WebSocketLink
from .sse import EventStreamLink

# A WebSocket has failed so often before it ever worked: something on the way does not let it through.
FAILURES_MAX = 2

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
        """The server has welcomed the client: this is the way."""
        self._auto = False

    def failed(self, error: Exception | None = None) -> None:
        """No welcome came. Whether the way is to blame decides what is tried next."""
        if isinstance(error, LinkRefused) and (error.status in HONEST or error.status >= 500):
            return
        if isinstance(error, LinkFailed) and not error.reached:
            return
        self._failures += 1
        if self._auto and self._failures >= FAILURES_MAX:
            self.transport = "sse" if self.transport == "websocket" else "websocket"

    def is_final(self, status: int) -> bool:
        """Whether a refusal means that coming back is of no use. What speaks no WebSocket may still serve events."""
        if status in (408, 429) or status >= 500:
            return False
        return status in HONEST or not (self._auto and self.transport == "websocket")
