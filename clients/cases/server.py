#!/usr/bin/env python3
"""A Voxhall server that misbehaves on purpose, as one case of the table says. README.md beside it describes both.

    python3 server.py --case NAME [--table FILE]

Prints `{"port": n}`, then `{"told": word}` whenever the case says so. Takes `{"tell": word}` and at last `{"end": true}` on its
standard input, and answers that with `{"verdict": {"pass": …, "faults": […], "received": […]}}`. Exit code 0, or 1 after a
fault. It needs nothing but Python 3.10.
"""

import argparse
import asyncio
import json
import struct
import sys
from pathlib import Path
from typing import Any

import steps
from match import differs
from wire import CLOSE, PING, PONG, Request, Wire, events_of, events_of_post

# How long a step may take before the case has failed, and what is left once the runner is done. Nothing waits for it in a case
# that passes.
PATIENCE_S = 20
END_S = 5


class Fault(Exception):
    """The client did what it should not have."""


class Server:
    """Plays the connections of a case in the order of their arrival."""

    def __init__(self, case: dict[str, Any]):
        self.case = case
        self.script = [steps for entry in case["server"] for steps in repeated(entry)]
        self.posts = list(case.get("posts", []))
        self.arrived = 0
        self.playing = 0
        self.done = asyncio.Event()
        self.words: dict[str, asyncio.Event] = {}
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.received: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> bool:
        server = await asyncio.start_server(self._enter, "127.0.0.1", 0)
        say({"port": server.sockets[0].getsockname()[1]})
        await self._obey()
        try:
            await asyncio.wait_for(self.done.wait(), END_S)
        except TimeoutError:
            came = f"{self.arrived} of {len(self.script)} connections of the case came, and {self.playing} are not through"
            self.faults.append(came)
        server.close()
        verdict = {"pass": not self.faults, "faults": self.faults, "received": self.received}
        say({"verdict": verdict})
        return not self.faults

    async def _obey(self) -> None:
        """Takes what the runner says, until the end."""
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            order = json.loads(line)
            if "end" in order:
                return
            self.word(order["tell"]).set()

    def word(self, word: str) -> asyncio.Event:
        """Set once the runner has said it."""
        return self.words.setdefault(word, asyncio.Event())

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        request = Request(head.decode())
        wire = Wire(request, reader, writer)
        if request.path == "/readyz":
            await wire.refuse(200 if self.case.get("ready") else 404, {})
            return
        if request.method == "GET":
            await self._play(wire)
        else:
            await self._take_post(wire)

    async def _take_post(self, wire: Wire) -> None:
        """A client's events by the uplink of the fallback."""
        body = await wire.reader.readexactly(int(wire.request.headers.get("content-length", "0")))
        named = {"id": f"conn_{self.arrived}", "resume": f"token-{self.arrived}"}
        if not named.items() & wire.request.query.items():
            self.faults.append(f"a POST asks with {wire.request.query}, instead of one of {named}")
        answer = self.posts.pop(0) if self.posts else {}
        if "token" in answer and token_of(wire.request) != answer["token"]:
            self.faults.append(f"a POST has the token {token_of(wire.request)}, instead of {answer['token']}")
        if answer.get("cut"):
            wire.cut(answer["cut"])
        events = events_of_post(body)
        if answer.get("taken", "status" not in answer and "cut" not in answer):
            for event in events:
                self.take(event)
        if not wire.over:
            last = max((event.get("client_seq", 0) for event in events), default=0)
            said = json.dumps({"accepted": len(events), "client_seq": last})
            await wire.refuse(answer.get("status", 200), answer.get("headers", {}), said)

    def take(self, event: dict[str, Any]) -> None:
        """Something from the client; `ping` is not worth noting unless the case asks for it."""
        if event.get("type") == "ping" and not self.case.get("pings"):
            return
        self.received.append(event)
        self.inbox.put_nowait(event)

    async def _play(self, wire: Wire) -> None:
        number = self.arrived
        self.arrived += 1
        if number >= len(self.script):
            self.faults.append(f"connection {number + 1} came, of {len(self.script)} in the case")
            await wire.refuse(503, {})
            return
        self.playing += 1
        script = self.script[number]
        try:
            for at, step in enumerate(script):
                await asyncio.wait_for(self._step(wire, step, number), PATIENCE_S)
        except TimeoutError:
            self.faults.append(f"connection {number + 1}, step {at + 1} {step}: it never happened; waiting: {self.waiting()}")
        except Fault as fault:
            self.faults.append(f"connection {number + 1}, step {at + 1} {step}: {fault}")
        except ConnectionError as error:
            self.faults.append(f"connection {number + 1}, step {at + 1} {step}: the client has gone: {error}")
        self.playing -= 1
        if self.faults or (self.arrived == len(self.script) and self.playing == 0):
            self.done.set()
        if not wire.over:
            await self._until_gone(wire)

    async def _step(self, wire: Wire, step: dict[str, Any], number: int) -> None:
        """One step: what the server tells the client, or waits for."""
        (verb,) = step
        value = step[verb]
        if verb == "asks":
            if found := differs(value, asked(wire.request)):
                raise Fault(f"it asks otherwise: {found}")
        elif verb == "expect":
            await self._expect(wire, value)
        elif verb == "nothing":
            await self._expect_nothing(wire)
        elif verb == "tell":
            say({"told": value})
        elif verb == "await":
            await self.word(value).wait()
        elif verb == "hang":
            wire.answered = True
            say({"told": "hanging"})
            await self._until_gone(wire)
        elif verb == "gone":
            await self._until_gone(wire)
            if value is not True and wire.closed_with != value:
                raise Fault(f"it left with {wire.closed_with}")
        else:
            await steps.misbehave(wire, verb, value, number)

    async def _expect(self, wire: Wire, wanted: dict[str, Any]) -> None:
        event = await self._next(wire)
        if event is None:
            raise Fault("the client has gone")
        if found := differs(wanted, event):
            raise Fault(f"{event} came: {found}")

    async def _expect_nothing(self, wire: Wire) -> None:
        """A question that has to be answered, and nothing may come before the answer: a ping of the transport."""
        if wire.request.transport == "websocket":
            await wire.frame(PING, b"nothing?")
            while not wire.ponged(b"nothing?"):
                if not await self._read(wire):
                    raise Fault("the client has gone")
        if not self.inbox.empty():
            raise Fault(f"{self.inbox.get_nowait()} came")

    async def _next(self, wire: Wire) -> dict[str, Any] | None:
        while self.inbox.empty():
            if wire.request.transport == "sse":
                return await self.inbox.get()
            if not await self._read(wire):
                return None
        return self.inbox.get_nowait()

    async def _read(self, wire: Wire) -> bool:
        """Takes one message; false when the client has gone or says goodbye."""
        await wire.accept()
        message = await wire.message()
        if message is None:
            return False
        opcode, data = message
        if opcode == CLOSE:
            wire.closed_with = struct.unpack(">H", data[:2])[0] if data else 1005
            if not wire.said_goodbye:
                await wire.frame(CLOSE, data)
            wire.over = True
            wire.writer.close()
            return False
        if opcode == PING:
            await wire.frame(PONG, data)
        elif opcode == PONG:
            wire.pongs.append(data)
        else:
            for event in events_of(wire.request.subprotocol, opcode, data):
                self.take(event)
        return True

    async def _until_gone(self, wire: Wire) -> None:
        if wire.request.transport == "websocket" and wire.spoke_websocket:
            while await self._read(wire):
                pass
        else:
            try:
                while await wire.reader.read(4096):
                    pass
            except ConnectionError:
                pass
        wire.over = True
        wire.writer.close()

    def waiting(self) -> list[dict[str, Any]]:
        """What came and was not expected."""
        return [self.inbox.get_nowait() for _ in range(self.inbox.qsize())]


def repeated(entry: Any) -> list[list[dict[str, Any]]]:
    """A connection's steps, or `{"times": n, "steps": […]}`."""
    return [entry["steps"]] * entry["times"] if isinstance(entry, dict) else [entry]


def asked(request: Request) -> dict[str, Any]:
    """What a case may say of a request."""
    return {
        "path": request.path,
        "transport": request.transport,
        "subprotocol": request.subprotocol,
        "headers": request.headers,
        "token": token_of(request),
        **request.query,
    }


def token_of(request: Request) -> str | None:
    """Wherever it is brought."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        return token
    offered = request.headers.get("sec-websocket-protocol", "").split(",")
    bearers = [word.strip().removeprefix("bearer.") for word in offered if word.strip().startswith("bearer.")]
    return bearers[0] if bearers else request.query.get("token")


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", required=True)
    parser.add_argument("--table", type=Path, default=Path(__file__).parent / "table.json")
    given = parser.parse_args()
    case = json.loads(given.table.read_text(encoding="utf-8"))[given.case]
    sys.exit(0 if asyncio.run(Server(case).run()) else 1)


if __name__ == "__main__":
    main()
