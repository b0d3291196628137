"""Plays the client's side of one case of the shared table: clients/cases/README.md says what each step means."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from case_clock import CaseClock

import voxhall

CASES = Path(__file__).parents[2] / "cases"
sys.path.append(str(CASES))

from match import differs, expand  # noqa: E402

TABLE: dict[str, Any] = json.loads((CASES / "table.json").read_text(encoding="utf-8"))
PATIENCE_S = 30
UNSEEN = ("session.created", "pong", "client.away", "client.gap")


async def play(name: str) -> list[str]:
    """Everything that was wrong."""
    case = TABLE[name]
    server = await Server.start(name)
    run = Run(case, server)
    faults = []
    try:
        await asyncio.wait_for(run.play(), PATIENCE_S)
    except TimeoutError:
        faults.append(f"client: step {run.step} never ended; it saw {run.seen}, {run.client.ended!r}")
    except AssertionError as error:
        faults.append(f"client: {error}")
    finally:
        # What waits for a timer of a case that has failed waits for good.
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(run.client.close(), 5)
    verdict = await server.end()
    return [*verdict["faults"], *faults, *run.differences()]


class Server:
    """The process that misbehaves."""

    def __init__(self, process: asyncio.subprocess.Process, port: int):
        self.process, self.port = process, port
        self.told: dict[str, asyncio.Event] = {}
        self.verdict: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str) -> "Server":
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, str(CASES / "server.py"), "--case", name)
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        return cls(process, json.loads(await process.stdout.readline())["port"])

    async def _read(self) -> None:
        async for line in self.process.stdout:
            said = json.loads(line)
            if "verdict" in said:
                self.verdict.set_result(said["verdict"])
            else:
                self.word(said["told"]).set()
        if not self.verdict.done():
            self.verdict.set_result({"faults": ["the server has no verdict"]})

    def word(self, word: str) -> asyncio.Event:
        return self.told.setdefault(word, asyncio.Event())

    def say(self, order: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def end(self) -> dict[str, Any]:
        self.say({"end": True})
        verdict = await self.verdict
        await self.process.wait()
        return verdict


class Run:
    """One client in one case."""

    def __init__(self, case: dict[str, Any], server: Server):
        self.case, self.server = case, server
        self.clock = CaseClock(case.get("hold", []))
        options = dict(case.get("options", {}))
        tokens = options.pop("tokens", None)
        if tokens:
            options["token"] = lambda: tokens.pop(0) if len(tokens) > 1 else tokens[0]
        address = f"ws://127.0.0.1:{server.port}"
        self.client = voxhall.Client(address, "room", clock=self.clock, random=lambda: 1.0, **options)
        self.events = self.client.__aiter__()
        self.seen: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.client.on("audio", self._hear)
        self.step: Any = None

    def _hear(self, audio: voxhall.Audio) -> None:
        flags = int(audio.first) | int(audio.last) << 1
        self.heard.append(
            {"hex": audio.payload.hex(), "flags": flags, "track": audio.track, "timestamp_ms": audio.timestamp_ms}
        )

    async def play(self) -> None:
        self.client.start()
        for self.step in self.case["client"]:
            await self._do(self.step)
        await self.client.close()
        await self._take_rest()

    async def _do(self, step: dict[str, Any]) -> None:
        ((verb, value),) = step.items()
        if verb == "until":
            await self._until(value)
        elif verb == "refused":
            try:
                await self._do(value)
            except voxhall.QueueFull:
                return
            raise AssertionError(f"{value} was taken")
        elif verb == "away":
            await self._until({"type": "client.away"})
        elif verb == "ended":
            await self._take_rest()
        elif verb == "fire":
            await self.clock.fire(value)
        elif verb == "tell":
            self.server.say({"tell": value})
        elif verb == "await":
            await self.server.word(value).wait()
        elif verb == "close":
            await self.client.close()
        else:
            await self._send(verb, value)

    async def _send(self, verb: str, value: Any) -> None:
        if verb == "room_send":
            await self.client.room_send(value)
        elif verb == "send":
            await self.client.send(value)
        elif verb == "audio":
            await self.client.send_audio(bytes.fromhex(value))
        elif verb == "subscribe":
            await self.client.subscribe(value)
        elif verb == "unsubscribe":
            await self.client.unsubscribe(value)
        elif verb == "refresh":
            await self.client.refresh_token()
        elif verb == "state":
            await self.client.update_state(value)
        else:
            raise AssertionError(f"no such step: {verb}")

    async def _until(self, wanted: dict[str, Any]) -> None:
        while True:
            try:
                event = await anext(self.events)
            except (StopAsyncIteration, voxhall.Ended) as end:
                raise AssertionError(f"the client ended ({end!r}) before {wanted}; it saw {self.seen}") from None
            self.seen.append(event)
            if not differs(wanted, event):
                return

    async def _take_rest(self) -> None:
        try:
            async for event in self.events:
                self.seen.append(event)
        except voxhall.Ended:
            pass

    def differences(self) -> list[str]:
        """Between what the case says and what was."""
        case, ended = self.case, self.client.ended
        seen = [event for event in self.seen if event["type"] not in UNSEEN]
        end = {} if ended is None or ended.by_user else {"code": ended.code, "status": ended.status}
        gaps = [event for event in self.seen if event["type"] == "client.gap"]
        found = [
            ("sees", differs(expand(case.get("sees", [])), seen)),
            ("gaps", "gaps" in case and differs(case["gaps"], gaps)),
            ("hears", differs(case.get("hears", []), self.heard)),
            ("delays_ms", differs(case.get("delays_ms", []), self.clock.delays_ms)),
            ("ends", differs(case.get("ends", {}), end) or ("ends" not in case and end) or None),
            ("state", differs(case.get("state", {}), self.client.state)),
        ]
        whole = {"sees": seen, "gaps": gaps, "hears": self.heard, "delays_ms": self.clock.delays_ms}
        return [f"{key}: {what}: {whole.get(key, '')}" for key, what in found if what]
