"""The worker of the documentation, with faults for tests: what a text says, it does, the first time it is told.

It prints what it has reached, so that a test knows when to kill it."""

import base64
import signal
import struct
import sys

import worker

plain = worker.answer
plain_respond = worker.respond


def reach(what):
    print(what, worker.os.getpid(), flush=True)


def hang(what):
    reach(what)
    signal.pause()


def answer(request):
    text = request.get("text", "")
    first = request["attempt"] == 1
    if text == "hang" and first:
        hang("hangs")
    if text == "stumble" and first:
        yield {"type": "text", "delta": "I beg"}
        hang("stumbles")
    if text == "event":
        yield {"type": "weather", "degrees": 21}
    if text == "fail":
        yield {"type": "error", "message": "No such thing.", "retryable": False}
    if not as_bytes(request):
        yield from plain(request)


def as_bytes(request):
    return request["kind"] == "audio" and request["format"] == "g711_ulaw"


def respond(server, request):
    if request.get("text") == "poison":
        raise LookupError
    if as_bytes(request):
        # As bytes behind a small header.
        name = worker.NAME.encode()
        audio = base64.b64decode(request["audio"])
        head = struct.pack("!BBB", 1, len(name), request["attempt"]) + request["request"].encode() + name
        for at in range(0, len(audio), 1_000):
            server.publish(request["reply_to"], head + audio[at : at + 1_000])
    plain_respond(server, request)


def work(server):
    try:
        worker_work(server)
    except LookupError:
        pass  # It neither answers nor acknowledges.


worker_work = worker.work
worker.answer = answer
worker.respond = respond
reach("works")
worker.main(worker.listen if "--pubsub" in sys.argv else work)
