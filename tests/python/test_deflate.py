"""permessage-deflate with the client ``websockets``, which offers it by itself: agreed to when the server has it on
(``VOXHALL_DEFLATE`` is then set), declined otherwise; over rooms of both subprotocols, and over /echo."""

import json
import os
import uuid

import pytest
from client import PATIENCE_S, PUBLIC, Member
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

ON = bool(os.environ.get("VOXHALL_DEFLATE"))
on = pytest.mark.skipif(not ON, reason="the server has it off")
LONG = "all of us, " * 1000


def deflate(socket):
    """The extension that was negotiated, if it was."""
    return next((e for e in socket.protocol.extensions if e.name == "permessage-deflate"), None)


def echo(**factory):
    extensions = [ClientPerMessageDeflateFactory(**factory)] if factory else None
    return connect(f"{PUBLIC}/echo", extensions=extensions, compression=None if factory else "deflate")


@pytest.mark.parametrize("subprotocol", ["", "voxhall.v1.plain", "voxhall.v1"])
def test_a_long_event_reaches_a_room(subprotocol):
    room = f"python-{uuid.uuid4()}"
    sender, listener = Member(room, "relay", subprotocol), Member(room, "relay", subprotocol)
    assert bool(deflate(listener.socket)) == ON
    for data in ["short", LONG, {"text": LONG, "κ": "🎧" * 2000}, "short again"]:
        sender.send({"type": "room.send", "data": data})
        assert listener.next("room.message")["data"] == data
    for member in (sender, listener):
        member.leave()


@on
def test_echo_returns_messages_of_every_kind_and_length():
    with echo() as socket:
        extension = deflate(socket)
        assert extension.local_no_context_takeover and extension.remote_no_context_takeover
        for size in [0, 1, 125, 126, 1023, 1024, 5000, 65535, 65536, 1 << 20]:
            text = (LONG * (size // len(LONG) + 1))[:size]
            # Noise becomes longer when it is compressed, and the bound is also on what travels.
            for message in [text, text.encode(), os.urandom(size * 9 // 10)]:
                socket.send(message)
                assert socket.recv(timeout=PATIENCE_S) == message
        socket.send(["frag", "ments ", LONG, "", "end"])
        assert socket.recv(timeout=PATIENCE_S) == f"fragments {LONG}end"


@on
@pytest.mark.parametrize("bits", range(9, 16))
def test_the_window_that_the_client_asks_for_is_kept(bits):
    with echo(server_max_window_bits=bits, client_max_window_bits=bits) as socket:
        assert deflate(socket).remote_max_window_bits == bits
        for start in range(3):
            message = json.dumps([start * i * i % 977 for i in range(20_000)])
            socket.send(message)
            assert socket.recv(timeout=PATIENCE_S) == message


@on
def test_a_message_that_inflates_beyond_the_bound_is_too_big():
    with echo() as socket:
        socket.send(bytes(8 << 20))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd.code == 1009
