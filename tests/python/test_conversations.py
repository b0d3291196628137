"""Every conversation of the shared table over every subprotocol it names, and the plain HTTP answers."""

import json
import uuid
from pathlib import Path

import pytest
from client import ADMIN, PUBLIC_HTTP
from play import get, play

TABLE = json.loads((Path(__file__).parent.parent / "node" / "conversations.json").read_text(encoding="utf-8"))
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def conversations():
    for conversation in TABLE["conversations"]:
        for subprotocol in conversation.get("over", TABLE["subprotocols"]):
            name = f"{conversation['engine']}, {subprotocol or 'no subprotocol'}: {conversation['name']}"
            yield pytest.param(conversation, subprotocol, id=name)


@pytest.mark.parametrize(("conversation", "subprotocol"), conversations())
def test_conversation(conversation, subprotocol):
    play(conversation, subprotocol, f"python-{uuid.uuid4()}")


@pytest.mark.parametrize("wanted", [pytest.param(a, id=f"{a['at']} {a['path']}") for a in TABLE["answers"]])
def test_answer(wanted):
    base = ADMIN if wanted["at"] == "admin" else PUBLIC_HTTP
    status, headers = get(base + wanted["path"], UPGRADE if wanted.get("upgrade") else None)
    assert status == wanted["status"]
    assert headers.get("content-type", "").startswith(wanted.get("type", ""))
    if "header" in wanted:
        assert headers.get(wanted["header"])
