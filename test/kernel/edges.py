"""One end of a connection. The server is told of changes only (EPOLLET), and reads until it gets less than it asked for, as event loops do.

    edges.py serve ADDRESS PORT         edges.py connect ADDRESS PORT

Does what it is told on standard input, a line each, and answers with a line.

    ping N          client: N messages there and back
    echo N          server: the other half of it
    send N...       client: a message of each size, as far as they are taken; how many bytes
    pour SECONDS    client: a message of 4 kB every 5 ms, for so long; how many bytes
    follow          server: reads 4 kB every 5 ms, from 0.3 s later on, until nothing happens for 2 seconds; JSON as of read
    read N          server: N bytes, or what comes until nothing happens for 2 seconds; JSON: how many, whether they are right, the longest wait
    block           O_NONBLOCK is cleared from now on
    recv RESTART    server: recv(), and SIGALRM after 0.3 s, with SA_RESTART if RESTART is 1; what it gave, or "EINTR", or the error
"""

import json
import select
import signal
import socket
import sys
import time

PATTERN = bytes((i * 7 + i // 251) & 0xFF for i in range(1 << 21))
SOME = 65536
PAGE = 4096
PACE = 0.005
QUIET = 2


class Interrupted(Exception):
    pass


def end(*_):
    raise SystemExit("edges.py: nobody has ended it")


def interrupt(*_):
    raise Interrupted


class Client:
    def __init__(self, address, port):
        self.socket = socket.create_connection((address, port))
        self.socket.setblocking(False)
        self.sent = 0

    def ping(self, count):
        for _ in range(int(count)):
            self.socket.send(b"ping")
            if not select.select([self.socket], [], [], 5)[0] or self.socket.recv(100) != b"ping":
                raise SystemExit("a message was lost")
        return "ok"

    def send(self, *sizes):
        total = 0
        for size in map(int, sizes):
            left = size
            while left and select.select([], [self.socket], [], 0.2)[1]:
                done = self.socket.send(PATTERN[total : total + left])
                total += done
                left -= done
            if left:
                break
        return total

    def block(self):
        self.socket.setblocking(True)
        return "ok"

    def pour(self, seconds):
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        total, end = 0, time.monotonic() + float(seconds)
        while time.monotonic() < end:
            start = total % len(PATTERN)
            if select.select([], [self.socket], [], 0.2)[1]:
                total += self.socket.send(PATTERN[start : start + PAGE])
            time.sleep(PACE)
        return total


class Server:
    def __init__(self, address, port):
        self.listener = socket.create_server((address, port))
        print("listening", flush=True)
        self.socket, _ = self.listener.accept()
        self.socket.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.socket, select.EPOLLIN | select.EPOLLET | select.EPOLLRDHUP)

    def drain(self, seconds, some=SOME, pause=0):
        """What there is after the next change; none: nothing changed."""
        pieces = []
        if self.epoll.poll(seconds):
            try:
                while not pieces or len(pieces[-1]) == some:
                    pieces.append(self.socket.recv(some))
                    time.sleep(pause)
            except BlockingIOError:
                pass
        return b"".join(pieces)

    def echo(self, count):
        for _ in range(int(count)):
            data = b""
            while len(data) < 4:
                piece = self.drain(5)
                if not piece:
                    raise SystemExit("nobody pings")
                data += piece
            self.socket.send(data)
        return "ok"

    def read(self, count, some=SOME, pause=0):
        data, longest = b"", 0
        while len(data) < int(count):
            since = time.monotonic()
            piece = self.drain(QUIET, some, pause)
            if not piece and time.monotonic() - since >= QUIET:
                break
            data += piece
            longest = max(longest, time.monotonic() - since)
        right = data == (PATTERN * (len(data) // len(PATTERN) + 1))[: len(data)]
        return json.dumps({"read": len(data), "right": right, "longest": longest})

    def follow(self):
        time.sleep(0.3)
        return self.read(1 << 30, PAGE, PACE)

    def block(self):
        self.socket.setblocking(True)
        return "ok"

    def recv(self, restart):
        answer = ""
        signal.signal(signal.SIGALRM, (lambda *_: None) if restart == "1" else interrupt)
        signal.siginterrupt(signal.SIGALRM, restart != "1")
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            try:
                answer = self.socket.recv(100).decode("latin-1")[:1] or "EOF"
            except OSError as error:
                answer = error.strerror
            signal.signal(signal.SIGALRM, end)
        except Interrupted:  # after an error that the signal has made, too
            answer = answer or "EINTR"
        return answer


signal.signal(signal.SIGALRM, end)
role, address, port = sys.argv[1:]
one = (Server if role == "serve" else Client)(address, int(port))
if role == "connect":
    print("connected", flush=True)
for line in sys.stdin:
    command, *values = line.split()
    print(getattr(one, command)(*values), flush=True)
