"""Both ends of one connection inside a pod, as non-blocking sockets of a proxy. Does what it is told on standard input, a line each, and answers with a line.

    ping N      N messages there and back; "ok"
    send N      the client sends N bytes, as many as are taken; how many
    more        the client sends the rest of the last send; how many
    read        the server reads what there is; its length, and whether it is what was sent
    both N      N bytes each way at once, more than the buffers hold; whether they are what was sent
    block       the server's socket is a blocking one from now on
    close       both ends
"""

import select
import signal
import socket
import sys

signal.alarm(120)
PATTERN = bytes((i * 7 + i // 251) & 0xFF for i in range(1 << 20))


class Ends:
    def __init__(self, port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        self.client = socket.socket()
        self.client.setblocking(False)
        self.client.connect_ex(("127.0.0.1", port))
        select.select([listener], [], [], 5)
        self.server, _ = listener.accept()
        self.server.setblocking(False)
        select.select([], [self.client], [], 5)
        self.sent = self.read = self.wanted = 0

    def exchange(self, source, target):
        source.send(b"ping")
        if not select.select([target], [], [], 5)[0] or target.recv(100) != b"ping":
            raise SystemExit("a message was lost")

    def ping(self, count):
        for _ in range(int(count)):
            self.exchange(self.client, self.server)
            self.exchange(self.server, self.client)
        return "ok"

    def send(self, count):
        self.wanted = self.sent + int(count)
        return self.more()

    def more(self):
        before = self.sent
        while self.sent < self.wanted:
            start = self.sent % len(PATTERN)
            try:
                self.sent += self.client.send(PATTERN[start : start + min(4096, self.wanted - self.sent)])
            except BlockingIOError:
                break
        return self.sent - before

    def receive(self):
        total, right = 0, True
        while select.select([self.server], [], [], 0.3)[0]:
            data = self.server.recv(65536)
            start = self.read % len(PATTERN)
            right = right and data == (PATTERN + PATTERN)[start : start + len(data)]
            self.read += len(data)
            total += len(data)
        return f"{total} {'right' if right else 'WRONG'}"

    def both(self, count):
        count, data = int(count), PATTERN + PATTERN
        ends = {end: [0, 0] for end in (self.client, self.server)}
        wished = dict.fromkeys(ends, 200_000)
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 40_000)
        while any(min(done) < count for done in ends.values()):
            unsent = [end for end, (sent, _) in ends.items() if sent < count]
            unread = [end for end, (_, read) in ends.items() if read < count]
            readable, writable, _ = select.select(unread, unsent, [], 5)
            if not readable and not writable:
                return "stuck"
            for end in writable:
                start, size = ends[end][0] % len(PATTERN), min(wished[end], count - ends[end][0])
                taken = end.send(data[start : start + size])
                ends[end][0] += taken
                wished[end] = 200_000 if taken == size else 1_000  # pieces of what was not taken
            for end in readable:
                got, start = end.recv(20_000), ends[end][1] % len(PATTERN)
                if got != data[start : start + len(got)]:
                    return "WRONG"
                ends[end][1] += len(got)
        return "ok"

    def block(self):
        self.server.setblocking(True)
        return "ok"

    def close(self):
        self.client.close()
        self.server.close()
        return "ok"


ends = Ends(int(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    command, *values = line.split()
    method = {"read": "receive"}.get(command, command)
    print(getattr(ends, method)(*values), flush=True)
