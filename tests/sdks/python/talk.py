"""A conversation through the package ``openai``, unchanged: its client of today and its beta client, with what differs
between the two in one place. Every event is checked against the package's own types."""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))

RATE = 24000
CHUNK = RATE // 10 * 2

# What is ours and no type of the package's.
OURS = ("room.", "output_audio_buffer.", "session.draining")


class Talk:
    def __init__(self, dialect: str, model: str = "gpt-realtime", query: dict | None = None):
        self.beta = dialect == "beta"
        # With tokens on, the key is one; otherwise any is taken.
        client = OpenAI(
            api_key=os.environ.get("VOXHALL_TOKEN", "sk-anything"),
            base_url="http://unused.invalid/v1",
            websocket_base_url=os.environ["VOXHALL_URL"] + "/v1",
        )
        realtime = client.beta.realtime if self.beta else client.realtime
        self.connection = realtime.connect(model=model, extra_query=query or {}).enter()
        self.seen = []
        self.session = self.event("session.created").session

    def name(self, ga: str) -> str:
        """The name of an event in this dialect."""
        if not self.beta:
            return ga
        if ga == "conversation.item.added":
            return "conversation.item.created"
        return ga.replace("response.output_", "response.") if "output_item" not in ga else ga

    def recv(self):
        event = self.connection.recv()
        if not event.type.startswith(OURS):
            type(event).model_validate(event.to_dict())
        self.seen.append(event)
        return event

    def event(self, ga: str):
        """Reads on to the next event of this type."""
        wanted = self.name(ga)
        while (event := self.recv()).type != wanted:
            assert event.type != "error" or wanted == "error", event
        return event

    def update(self, **session):
        """Changes the session, in the shape of the dialect."""
        if self.beta:
            shape = {
                "turn_detection": session.get("turn_detection"),
                "instructions": session.get("instructions", ""),
                "voice": session.get("voice", "alloy"),
                "tools": session.get("tools", []),
                "input_audio_format": "pcm16",
                "output_audio_format": "pcm16",
                "input_audio_transcription": session.get("transcription"),
                "modalities": ["text", "audio"],
            }
        else:
            shape = {
                "type": "realtime",
                "instructions": session.get("instructions", ""),
                "tools": session.get("tools", []),
                "output_modalities": ["audio"],
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": RATE},
                        "turn_detection": session.get("turn_detection"),
                        "transcription": session.get("transcription"),
                    },
                    "output": {
                        "format": {"type": "audio/pcm", "rate": RATE},
                        "voice": session.get("voice", "alloy"),
                    },
                },
            }
        self.connection.session.update(session=shape)
        return self.event("session.updated").session

    def speak(self, pcm: bytes):
        for at in range(0, len(pcm), CHUNK):
            self.connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at : at + CHUNK]).decode())

    def text(self, text: str, **fields):
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **fields}
        self.connection.conversation.item.create(item=item)
        return self.event("conversation.item.added").item

    def answer(self):
        """Reads a whole response: its audio, its transcript, and how it ended."""
        start = len(self.seen)
        done = self.event("response.done")
        events = self.seen[start:]
        audio = b"".join(base64.b64decode(event.delta) for event in of(events, self.name("response.output_audio.delta")))
        words = "".join(event.delta for event in of(events, self.name("response.output_audio_transcript.delta")))
        return audio, words, done.response

    def close(self):
        self.connection.close()


def of(events, kind):
    return [event for event in events if event.type == kind]
