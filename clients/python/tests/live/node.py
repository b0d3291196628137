"""A server of a test's own, which may be killed and started anew."""

import asyncio
import os
import re

PROGRAM = os.environ["VOXHALL_BIN"]


class Node:
    def __init__(self, process: asyncio.subprocess.Process, port: int):
        self.process, self.port = process, port

    @classmethod
    async def start(cls, *settings: str) -> "Node":
        arguments = ["serve", "--shards", "1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        for setting in settings:
            arguments += ["--set", setting]
        process = await asyncio.create_subprocess_exec(
            PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        while line := await process.stdout.readline():
            if ready := re.search(rb"ready: http://127\.0\.0\.1:(\d+)", line):
                return cls(process, int(ready[1]))
        raise AssertionError("the server did not start")

    async def __aenter__(self) -> "Node":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
