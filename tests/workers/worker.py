"""A worker: answers what rooms ask. Run as many as you like: worker.py redis://127.0.0.1:6379"""

import itertools, json, os, socket, sys, time
import redis

STREAM, GROUP = "voxhall:requests", "workers"
NAME = f"{socket.gethostname()}-{os.getpid()}"


def answer(request):
    """Yields the answer piece by piece: here it says what it was told."""
    if request["kind"] == "audio":
        yield {"type": "transcript", "delta": "You said:"}
        yield {"type": "audio", "audio": request["audio"]}
    else:
        yield {"type": "text", "delta": "You wrote: "}
        yield {"type": "text", "delta": request.get("text", "nothing")}


def respond(server, request):
    if request["deadline_ms"] < time.time() * 1000:
        return  # Nobody waits for it any more.
    for piece in itertools.chain(answer(request), [{"type": "done"}]):
        piece |= {"request": request["request"], "attempt": request["attempt"], "worker": NAME}
        server.publish(request["reply_to"], json.dumps(piece))


def work(server):
    for _, entries in server.xreadgroup(GROUP, NAME, {STREAM: ">"}, count=1, block=5_000) or ():
        for entry, fields in entries:
            respond(server, json.loads(fields[b"request"]))
            server.xack(STREAM, GROUP, entry)  # Only now: what is not acknowledged is told to another worker.


def listen(server):
    """As `work`, where worker.mode is pubsub."""
    messages = server.pubsub(ignore_subscribe_messages=True)
    messages.subscribe(STREAM)
    for message in messages.listen():
        respond(server, json.loads(message["data"]))


def main(job=work):
    server = redis.Redis.from_url(sys.argv[1])
    while True:
        try:
            job(server)
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
            print("Redis:", error, file=sys.stderr)  # Away, or just back and without the group.
            time.sleep(0.2)


if __name__ == "__main__":
    main(listen if "--pubsub" in sys.argv else work)
