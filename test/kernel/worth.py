"""Both ends of a connection inside a pod: an app's client, and a server of the proxy or of an app.

    worth.py PORT UID       of the server

Does what it is told on standard input, a line each, and answers with a line.

    ping N                  N small messages there and back; "ok"
    exchange N A B          N requests of A bytes, each with an answer of B bytes; "ok"
    stream N SIZE           the client sends N messages of SIZE bytes, the server reads them at once; "ok"
    trail N SIZE BEHIND     the same, but the server leaves BEHIND bytes until the end
    unread N SIZE           the client sends N messages; how many are taken whole
    read                    the server reads what there is; how many bytes
    nodelay                 the client's socket has TCP_NODELAY from now on; "ok"
    splice                  the server's next 4 bytes from the client are read with splice(); "ok"
    close                   both ends; "ok"
"""

import os
import select
import signal
import socket
import sys

signal.alarm(60)
PATTERN = bytes((i * 7 + i // 251) & 0xFF for i in range(1 << 20)) * 2
HALF = len(PATTERN) // 2


class End:
    def __init__(self, connected):
        connected.setblocking(False)
        self.socket = connected
        self.sent = self.got = 0

    def send(self, size):
        """As many of the next bytes as are taken."""
        start = self.sent % HALF
        try:
            done = self.socket.send(PATTERN[start : start + size])
        except BlockingIOError:
            return 0
        self.sent += done
        return done

    def take(self, size):
        try:
            data = self.socket.recv(min(size, 65536))
        except BlockingIOError:
            return 0
        start = self.got % HALF
        if data != PATTERN[start : start + len(data)] or not data:
            raise SystemExit("these bytes are wrong")
        self.got += len(data)
        return len(data)


def wait(reader, writer):
    if not any(select.select([reader.socket], [writer.socket] if writer else [], [], 5)):
        raise SystemExit("bytes were lost")


class Ends:
    def __init__(self, port, uid):
        listener = socket.create_server(("127.0.0.1", port))
        os.seteuid(1000)
        self.client = End(socket.create_connection(("127.0.0.1", port)))
        os.seteuid(0)
        os.seteuid(uid)
        self.server = End(listener.accept()[0])
        os.seteuid(0)

    def carry(self, source, target, size):
        left = size
        while left:
            left -= source.send(left)
            self.take_all(source, target)
        while target.got < source.sent:
            wait(target, None)
            self.take_all(source, target)

    def take_all(self, source, target):
        while target.got < source.sent and target.take(source.sent - target.got):
            pass

    def ping(self, count):
        return self.exchange(count, 4, 4)

    def exchange(self, count, request, answer):
        for _ in range(count):
            self.carry(self.client, self.server, request)
            self.carry(self.server, self.client, answer)
        return "ok"

    def stream(self, count, size):
        for _ in range(count):
            self.carry(self.client, self.server, size)
        return "ok"

    def trail(self, count, size, behind):
        for _ in range(count):
            left = size
            while left:
                left -= self.client.send(left)
                while self.client.sent - self.server.got > behind:
                    if not self.server.take(self.client.sent - self.server.got - behind):
                        wait(self.server, None)
        return "ok"

    def unread(self, count, size):
        return sum(self.client.send(size) == size for _ in range(count))

    def read(self):
        before = self.server.got
        while self.server.got < self.client.sent:
            wait(self.server, None)
            self.take_all(self.client, self.server)
        return self.server.got - before

    def nodelay(self):
        self.client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return "ok"

    def splice(self):
        self.client.send(4)
        wait(self.server, None)
        out, into = os.pipe()
        done = os.splice(self.server.socket.fileno(), into, 4)
        start = self.server.got % HALF
        if os.read(out, 4) != PATTERN[start : start + done]:
            raise SystemExit("these bytes are wrong")
        self.server.got += done
        os.close(out)
        os.close(into)
        return "ok"

    def close(self):
        self.client.socket.close()
        self.server.socket.close()
        return "ok"


ends = Ends(int(sys.argv[1]), int(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    command, *values = line.split()
    print(getattr(ends, command)(*map(int, values)), flush=True)
