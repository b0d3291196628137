"""Sound made up by the test: a tone that swells like syllables, and silence."""

import array
import math
import sys

FRAME_MS = 20
SYLLABLES_PER_S = 4
LOUDNESS = 9000


def tone(ms: int, rate: int) -> bytes:
    """pcm16 of a voice-like tone."""
    samples = array.array("h")
    for i in range(ms * rate // 1000):
        turn = 2 * math.pi * i / rate
        swell = 0.6 + 0.4 * math.sin(SYLLABLES_PER_S * turn)
        voice = math.sin(180 * turn) + 0.5 * math.sin(720 * turn) + 0.3 * math.sin(1500 * turn)
        samples.append(round(swell * voice * LOUDNESS))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def silence(ms: int, rate: int) -> bytes:
    return bytes(ms * rate // 1000 * 2)


def frames(pcm: bytes, rate: int) -> list[bytes]:
    """Cut into 20 ms frames."""
    size = rate * FRAME_MS // 1000 * 2
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


def noise(length: int, seed: int) -> bytes:
    """Bytes that are no sound at all, the same for the same seed."""
    return bytes((i * 31 + seed * 17 + (i * seed >> 3)) & 0xFF for i in range(length))
