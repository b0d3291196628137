"""Whether something is as a case says: the server and the Python runner ask the same way."""

from typing import Any


def differs(wanted: Any, found: Any, path: str = "") -> str | None:
    """Where it differs. An object needs what is named, and may have more; null says that there is none; a list is whole."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        places = (differs(value, found.get(key), f"{path}.{key}") for key, value in wanted.items())
        return next(filter(None, places), None)
    if isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            return f"{path or 'the list'} has {len(found)} instead of {len(wanted)} entries"
        places = (differs(one, other, f"{path}[{at}]") for at, (one, other) in enumerate(zip(wanted, found)))
        return next(filter(None, places), None)
    if type(wanted) is type(found) and wanted == found:
        return None
    return f"{path or 'it'} is {found!r} instead of {wanted!r}"


def numbers(text: str) -> list[int]:
    """`"1-3,7"` is 1, 2, 3 and 7, in this order."""
    spans = [piece.partition("-") for piece in text.split(",")]
    return [n for first, _, last in spans for n in range(int(first), int(last or first) + 1)]


def message(seq: int) -> dict[str, Any]:
    """The event that `say` sends and a number in `sees` stands for."""
    return {"type": "room.message", "event_id": f"event_{seq}", "seq": seq, "from": 2, "data": seq}


def expand(events: list[Any]) -> list[Any]:
    """Spells out the numbers in a list of events."""
    lists = [[message(seq) for seq in numbers(event)] if isinstance(event, str) else [event] for event in events]
    return [event for some in lists for event in some]
