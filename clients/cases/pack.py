"""MessagePack, as much of it as events need, so that the server of the cases runs on a bare Python."""

import struct
from typing import Any


def pack(value: Any) -> bytes:
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        head = bytes([0xA0 | len(text)]) if len(text) < 32 else b"\xdb" + struct.pack(">I", len(text))
        return head + text
    if isinstance(value, list):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdd" + struct.pack(">I", len(value))
        return head + b"".join(pack(item) for item in value)
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xdf" + struct.pack(">I", len(value))
        return head + b"".join(pack(key) + pack(item) for key, item in value.items())
    raise TypeError(f"{type(value).__name__} in an event")


def _pack_int(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if -32 <= value < 0:
        return struct.pack(">b", value)
    return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)


def unpack(data: bytes) -> Any:
    """The one value in these bytes."""
    value, end = _unpack(data, 0)
    if end != len(data):
        raise ValueError("bytes behind the value")
    return value


_FIXED = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_SIZED = {
    0xC4: (bytes, ">B"),
    0xC5: (bytes, ">H"),
    0xC6: (bytes, ">I"),
    0xD9: (str, ">B"),
    0xDA: (str, ">H"),
    0xDB: (str, ">I"),
    0xDC: (list, ">H"),
    0xDD: (list, ">I"),
    0xDE: (dict, ">H"),
    0xDF: (dict, ">I"),
}


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    if at >= len(data):
        raise ValueError("it ends too early")
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if kind >= 0xE0:
        return kind - 0x100, at
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if kind in _FIXED:
        form = _FIXED[kind]
        end = at + struct.calcsize(form)
        return struct.unpack(form, data[at:end])[0], end
    if kind < 0xC0:
        what, size = {0x80: (dict, kind & 15), 0x90: (list, kind & 15)}.get(kind & 0xF0, (str, kind & 31))
    elif kind in _SIZED:
        what, form = _SIZED[kind]
        end = at + struct.calcsize(form)
        size, at = struct.unpack(form, data[at:end])[0], end
    else:
        raise ValueError(f"no event has a value of the kind {kind:#x}")
    return _unpack_sized(data, at, what, size)


def _unpack_sized(data: bytes, at: int, what: type, size: int) -> tuple[Any, int]:
    if what in (bytes, str):
        piece = data[at : at + size]
        if len(piece) < size:
            raise ValueError("it ends too early")
        return (piece if what is bytes else piece.decode()), at + size
    items = []
    for _ in range(size * (2 if what is dict else 1)):
        item, at = _unpack(data, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if what is dict else items), at
