"""Many connections at once, and traffic that goes on until it is stopped."""

import errno
import selectors
import socket
import sys
import time

from connect import read_greeting, wait_connected
from sockets import attempt, become, name, text


def verdict(seen, to):
    """None when the greeting names the destination that was asked for."""
    if not isinstance(seen, dict):
        return seen
    asked = f"{text(to)} (16 bytes)"
    return None if seen["origin"]["16"] == asked else f"{seen['listener']}: asked {asked}, got {seen['origin']['16']}"


def finish(sock, to, expect):
    sock.setblocking(True)
    sock.settimeout(10)
    seen = attempt(lambda: read_greeting(sock))
    if isinstance(seen, dict) and seen["listener"] not in expect:
        return f"reached {seen['listener']}"
    if isinstance(seen, dict) and seen["peer"] != text(sock.getsockname()):
        return f"source {text(sock.getsockname())} seen as {seen['peer']}"
    return verdict(seen, to)


def start(to, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    if port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", port))
    return sock, to, sock.connect_ex(tuple(to))


def flood(spec):
    """
    Starts all connects of `to` at the time `start` (seconds of the epoch) before it waits for any, from the source ports `ports` if given, and
    keeps them until `end`. Counts outcomes: {"ok": n, "ECONNREFUSED": n, ...}
    """
    become(spec["as"])
    ports = spec.get("ports") or [0] * len(spec["to"])
    time.sleep(max(0, spec["start"] - time.time()))
    started = [start(to, port) for to, port in zip(spec["to"], ports, strict=True)]
    counts = {}
    for sock, to, error in started:
        if error not in (0, errno.EINPROGRESS):
            outcome = name(error)
        else:
            late = wait_connected(sock, 10)
            outcome = name(late) if late else finish(sock, to, spec["expect"]) or "ok"
        counts[outcome] = counts.get(outcome, 0) + 1
    time.sleep(max(0, spec["end"] - time.time()))
    return counts


def ready_to_stop():
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    return bool(selector.select(0)) and sys.stdin.readline() == ""


def exchange(sock, number):
    message = b"%08d" % number
    sock.sendall(message)
    got = b""
    while len(got) < len(message):
        part = sock.recv(len(message) - len(got))
        if not part:
            return "EOF"
        got += part
    return None if got == message else "wrong bytes"


def fresh(to):
    """A new connection: (socket, name of the listener that it reached, problem)"""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(5)
    try:
        sock.connect(tuple(to))
        seen = read_greeting(sock)
    except OSError as error:
        return sock, None, name(error) if error.errno else "TIMEOUT"
    return sock, seen["listener"] if isinstance(seen, dict) else None, verdict(seen, to)


def traffic(spec):
    """Exchanges on `connections` old connections and makes new ones all the time. Prints "started" once the old ones stand."""
    become(spec["as"])
    old = []
    problems = {}
    reached = {}

    def count(where, what):
        where[what] = where.get(what, 0) + 1

    for _ in range(spec["connections"]):
        sock, _listener, problem = fresh(spec["to"])
        if problem:
            count(problems, f"at start: {problem}")
        old.append(sock)
    print("started", flush=True)
    rounds = 0
    while not ready_to_stop():
        rounds += 1
        for sock in old:
            problem = attempt(lambda sock=sock: exchange(sock, rounds))
            if problem:
                count(problems, f"old connection: {problem}")
        sock, listener, problem = fresh(spec["to"])
        sock.close()
        if problem:
            count(problems, f"new connection: {problem}")
        if listener:
            count(reached, listener)
        time.sleep(spec.get("pause", 0.002))
    return {"rounds": rounds, "problems": problems, "reached": reached}
