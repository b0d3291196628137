"""Ways to the server: a WebSocket, or server-sent events with an uplink of requests."""

from __future__ import annotations

import email.utils
import ssl
import time
from dataclasses import dataclass
from typing import Any, Mapping, Protocol
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, ProtocolError
from websockets.typing import Subprotocol

from .errors import LinkClosed, LinkFailed, LinkRefused


@dataclass(frozen=True)
class Address:
    """A room of a server."""

    base: str
    """`ws://host:port`, or `wss`, `http`, `https`; a path before `/ws/` stays."""
    room: str

    def url(self, transport: str, query: Mapping[str, str]) -> str:
        """`transport` is `ws` or `sse`."""
        secure = urlsplit(self.base).scheme in ("wss", "https")
        scheme = {"ws": ("ws", "wss"), "sse": ("http", "https")}[transport][secure]
        rest = self.base.split("://", 1)[1].rstrip("/")
        asked = f"?{urlencode(query)}" if query else ""
        return f"{scheme}://{rest}/{transport}/{self.room}{asked}"


    @property
    def ready_url(self) -> str:
        """Where the server says whether it is ready."""
        secure = urlsplit(self.base).scheme in ("wss", "https")
        return f"{'https' if secure else 'http'}://{self.base.split('://', 1)[1].rstrip('/')}/readyz"


class Link(Protocol):
    """One connection. Every method may raise `LinkClosed`."""

    subprotocol: str
    takes_bytes: bool
    """Whether audio can go as it is; otherwise it goes in events."""

    async def receive(self) -> str | bytes:
        """The next message."""

    def identify(self, connection: str) -> None:
        """The server has given the connection this id."""

    def renew(self, token: str) -> None:
        """The server has taken a fresh token for the session."""

    async def send(self, messages: list[str | bytes]) -> int | None:
        """Sends messages in order; returns when there is room for more. Gives the last `client_seq` that was taken, where the
        link itself tells. `TooBig` is the one that is never taken: those before it have been."""

    async def close(self, code: int, reason: str = "") -> None:
        """Says goodbye, and ends it."""

    def abort(self) -> None:
        """Ends it without a word."""


class WebSocketLink:
    """The usual way."""

    takes_bytes = True

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self.subprotocol = str(socket.subprotocol or "")

    @classmethod
    async def open(
        cls, url: str, subprotocol: str, headers: Mapping[str, str], tls: ssl.SSLContext | None
    ) -> WebSocketLink:
        options: dict[str, Any] = {"ssl": tls} if tls is not None else {}
        try:
            # Pings and deadlines are the client's own, for both kinds of link; the server bounds its messages.
            socket = await connect(
                url,
                subprotocols=[Subprotocol(subprotocol)],
                additional_headers=dict(headers),
                open_timeout=None,
                ping_interval=None,
                close_timeout=2,
                max_size=None,
                **options,
            )
        except InvalidStatus as refusal:
            response = refusal.response
            retry_after_s = seconds_of(response.headers.get("Retry-After"))
            body = (response.body or b"").decode(errors="replace")
            raise LinkRefused(response.status_code, retry_after_s, body) from None
        except OSError as error:
            raise LinkFailed(str(error), reached=was_reached(error)) from None
        except (InvalidHandshake, ProtocolError, EOFError, ValueError) as error:
            raise LinkFailed(str(error), reached=True) from None
        return cls(socket)

    async def receive(self) -> str | bytes:
        try:
            return await self._socket.recv()
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    def identify(self, connection: str) -> None:
        pass

    def renew(self, token: str) -> None:
        pass

    async def send(self, messages: list[str | bytes]) -> int | None:
        try:
            for message in messages:
                await self._socket.send(message)
            return None
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    def abort(self) -> None:
        self._socket.transport.abort()


def _closed(closed: ConnectionClosed) -> LinkClosed:
    """What the server said. A code that this side sent, because a frame was broken, is a cut."""
    if closed.rcvd is None:
        return LinkClosed(1006, str(closed))
    return LinkClosed(closed.rcvd.code, closed.rcvd.reason)


def was_reached(error: OSError) -> bool:
    """Whether something at the address has said anything: without a network, a name or a listener nothing has."""
    return isinstance(error, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLError))


def seconds_of(value: str | None) -> float | None:
    """`Retry-After`: seconds, or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
