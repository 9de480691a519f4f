"""Connections inside a pod whose servers do not read. Does what it is told on standard input, a line each, and answers with a line.

    ping       a message there and back on each connection; "ok"
    fill N     each client sends messages of N bytes for as long as it is let; JSON: for each connection what was taken, and the memory of its ends
    drain      the servers read what there is; JSON: for each connection how many bytes, what was wrong with them, and the longest wait in seconds
"""

import json
import select
import signal
import socket
import struct
import sys
import time

signal.alarm(150)
SO_MEMINFO = 55
PATTERN = bytes((i * 7 + i // 251) & 0xFF for i in range(1 << 20))
FIELDS = ("rmem", "rcvbuf", "wmem", "sndbuf", "forward", "queued", "options", "backlog", "drops")


def memory(end):
    data = end.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * len(FIELDS))
    return dict(zip(FIELDS, struct.unpack(f"{len(data) // 4}I", data)))


class Connection:
    def __init__(self, listener, sending):
        self.client = socket.socket()
        if sending:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sending)
        self.client.connect(listener.getsockname())
        self.server, _ = listener.accept()
        for end in (self.client, self.server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)
        self.sent = self.read = 0

    def ping(self):
        for source, target in ((self.client, self.server), (self.server, self.client)):
            source.send(b"ping")
            if not select.select([target], [], [], 10)[0] or target.recv(100) != b"ping":
                raise SystemExit("a message was lost")

    def fill(self, size):
        """As many messages as are taken at once; whether it was any."""
        before = self.sent
        try:
            while True:
                start = self.sent % len(PATTERN)
                self.sent += self.client.send((PATTERN[start : start + size] + PATTERN[:size])[:size])
        except BlockingIOError:
            return self.sent > before

    def state(self):
        return {"sent": self.sent - self.read, "client": memory(self.client), "server": memory(self.server)}

    def drain(self):
        """How many bytes, what was wrong, and the longest wait."""
        begin, longest, wrong = self.read, 0, ""
        while self.read < self.sent and not wrong:
            start, since = self.read % len(PATTERN), time.monotonic()
            if not select.select([self.server], [], [], 10)[0]:
                wrong = f"nothing came for 10 s after byte {self.read}"
                break
            longest = max(longest, time.monotonic() - since)
            data = self.server.recv(65536)
            if data != (PATTERN + PATTERN)[start : start + len(data)]:
                wrong = f"wrong at byte {self.read}: {data[:8].hex()} at {PATTERN.find(data[:64])}"
            self.read += len(data)
        return {"read": self.read - begin, "wrong": wrong, "longest": longest}


def fill_all(size):
    quiet = 0
    while quiet < 3:
        if any([each.fill(size) for each in connections]):
            quiet = 0
        else:
            quiet += 1
            time.sleep(0.05)
    return [each.state() for each in connections]


port, count, sending, receiving = map(int, sys.argv[1:])
with socket.create_server(("127.0.0.1", port), backlog=1000) as listener:
    if receiving:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiving)
    connections = [Connection(listener, sending) for _ in range(count)]
print("ready", flush=True)
for line in sys.stdin:
    command, *values = line.split()
    if command == "ping":
        for each in connections:
            each.ping()
        print("ok", flush=True)
    elif command == "fill":
        print(json.dumps(fill_all(int(values[0]))), flush=True)
    elif command == "drain":
        print(json.dumps([each.drain() for each in connections]), flush=True)
