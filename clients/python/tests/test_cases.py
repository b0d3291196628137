"""Every case of the shared table that is for Python."""

import asyncio

import pytest
from play import TABLE, play

NAMES = [name for name, case in TABLE.items() if "python" in case.get("clients", ["python"])]


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    faults = asyncio.run(play(name))
    assert not faults, f"{TABLE[name]['why']}:\n" + "\n".join(faults)
