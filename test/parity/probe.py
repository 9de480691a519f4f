"""The probe of the parity tests: listeners that tell each client what they see, and clients that report everything a program can observe.

    probe.py serve '{"uid": 1337, "gid": 1337, "listeners": [{"name": "15001", "address": "0.0.0.0", "port": 15001}]}'
    probe.py connect < cases.json
    probe.py flood < spec.json
    probe.py traffic < spec.json      until stdin ends

Every accepted connection is sent one JSON line (who accepted it, its two addresses, SO_ORIGINAL_DST), then an echo of what it sends.
Errors are names ("ECONNREFUSED"); an address is "a.b.c.d:port". Runs inside the network namespace in question, as root.
"""

import ctypes
import errno
import json
import os
import selectors
import socket
import struct
import sys
import time

SO_ORIGINAL_DST = 80
SYN_DATA_ACKED = 32  # TCPI_OPT_SYN_DATA of tcpi_options
PATIENCE = 1.5  # seconds for any one step
libc = ctypes.CDLL(None, use_errno=True)


def name(error):
    number = error if isinstance(error, int) else error.errno
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))  # Python's table says ENOTSUP


def text(address):
    return f"{address[0]}:{address[1]}"


def attempt(call):
    try:
        return call()
    except OSError as error:
        return name(error)


def original(sock, level, size):
    """What getsockopt(SO_ORIGINAL_DST) answers, with the length that it returned."""

    def ask():
        raw = sock.getsockopt(level, SO_ORIGINAL_DST, size)
        family = struct.unpack_from("=H", raw)[0] if len(raw) >= 2 else 0
        port = struct.unpack_from("!H", raw, 2)[0] if len(raw) >= 4 else 0
        host = socket.inet_ntop(socket.AF_INET6, raw[8:24]) if family == socket.AF_INET6 else socket.inet_ntoa(raw[4:8])
        return f"{host}:{port} ({len(raw)} bytes)"

    return attempt(ask)


def originals(sock):
    return {
        "8": original(sock, socket.SOL_IP, 8),
        "15": original(sock, socket.SOL_IP, 15),
        "16": original(sock, socket.SOL_IP, 16),
        "32": original(sock, socket.SOL_IP, 32),
        "128": original(sock, socket.SOL_IP, 128),
        "v6": original(sock, socket.IPPROTO_IPV6, 28),
        "socket": attempt(lambda: sock.getsockopt(socket.SOL_SOCKET, SO_ORIGINAL_DST, 16).hex()),
    }


# --- listeners ---------------------------------------------------------------------------------------------------------------------------


def listen(spec):
    family = socket.AF_INET6 if ":" in spec["address"] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if spec.get("reuseport"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((spec["address"], spec["port"]))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
    sock.listen(4096)
    sock.setblocking(False)
    return sock


def greet(listener, label, record):
    """Accepts everything that waits; returns the connections that were told who accepted them."""
    accepted = []
    for _ in range(256):
        try:
            sock, peer = listener.accept()
        except (BlockingIOError, ConnectionError):
            break
        seen = {"listener": label, "peer": text(peer), "local": text(sock.getsockname()), "origin": originals(sock)}
        if record is not None:
            os.write(record, (json.dumps(seen) + "\n").encode())
        sock.setblocking(False)
        try:
            sock.send((json.dumps(seen) + "\n").encode())
        except OSError:
            sock.close()
            continue
        accepted.append(sock)
    return accepted


def echo(sock):
    """False when the connection has ended."""
    try:
        data = sock.recv(65536)
        if data:
            sock.sendall(data)
        return bool(data)
    except BlockingIOError:
        return True
    except OSError:
        return False


def serve(spec):
    record = os.open(spec["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if "record" in spec else None
    become(spec)
    selector = selectors.DefaultSelector()
    for one in spec["listeners"]:
        selector.register(listen(one), selectors.EVENT_READ, one["name"])
    print("ready", flush=True)
    while True:  # until the test kills it
        for key, _ in selector.select():
            if key.data is not None:
                for sock in greet(key.fileobj, key.data, record):
                    selector.register(sock, selectors.EVENT_READ, None)
            elif not echo(key.fileobj):
                selector.unregister(key.fileobj)
                key.fileobj.close()


# --- one case after the other ------------------------------------------------------------------------------------------------------------


def become(who):
    """All of real, effective, saved and file-system ids; `real_uid` keeps another real uid."""
    os.setgroups([])
    os.setresgid(who["gid"], who["gid"], who["gid"])
    os.setresuid(who.get("real_uid", who["uid"]), who["uid"], who["uid"])


def client_socket(case):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    patience = struct.pack("=qq", int(PATIENCE), int(PATIENCE % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    if "bind" in case and case["bind"][1]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def prepare(sock, case):
    if "device" in case:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, case["device"].encode())
    if "bind" in case:
        sock.bind(tuple(case["bind"]))


def disconnect(sock):
    unspecified = (ctypes.c_ubyte * 16)()
    if libc.connect(sock.fileno(), unspecified, 16) != 0:
        raise OSError(ctypes.get_errno(), "disconnect")


def wait_connected(sock, patience=PATIENCE):
    """The error of a connection in progress, 0 when it is established. Asking takes the error away from the socket."""
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_WRITE)
    ready = selector.select(patience)
    selector.close()
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else errno.ETIMEDOUT


def dial(sock, to, case):
    """(error or None, "connect" or "later")"""
    try:
        if case.get("fastopen"):
            sock.sendto(b"early", socket.MSG_FASTOPEN, tuple(to))
        else:
            sock.connect(tuple(to))
        return None, "connect"
    except BlockingIOError as error:
        if not case.get("nonblock"):
            return "TIMEOUT", "connect"  # SO_SNDTIMEO of a blocking connect
        if error.errno != errno.EINPROGRESS:
            return name(error), "connect"
    except OSError as error:
        return name(error), "connect"
    late = wait_connected(sock)
    sock.setblocking(True)
    return (name(late) if late else None), "later"


def read_greeting(sock):
    line = b""
    while not line.endswith(b"\n") and b"\n" not in line:
        part = sock.recv(65536)
        if not part:
            return "EOF"
        line += part
    return json.loads(line.split(b"\n")[0])


def observe(sock, to, case):
    if case.get("nonblock"):
        sock.setblocking(False)
    error, when = dial(sock, to, case)
    if error:
        return {"error": error, "when": when, "peer": attempt(lambda: text(sock.getpeername()))}
    seen = attempt(lambda: read_greeting(sock))
    seen = "TIMEOUT" if seen == "EAGAIN" else seen
    view = {
        "when": when,
        "seen": seen,
        "local": attempt(lambda: text(sock.getsockname())),
        "peer": attempt(lambda: text(sock.getpeername())),
        "origin": originals(sock),
    }
    if case.get("fastopen"):
        view["synData"] = bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5] & SYN_DATA_ACKED)
    return view


def run_case(sock, case):
    steps = []
    with sock:
        try:
            prepare(sock, case)
            for index, to in enumerate(case["to"]):
                if index > 0:
                    disconnect(sock)
                steps.append(observe(sock, to, case))
        except OSError as error:
            steps.append({"error": name(error), "when": "before"})
    return {"id": case["id"], "steps": steps}


def run_group(cases):
    """Cases of one identity, in a process of their own. Sockets of another creator are made first, with its effective ids."""
    creator = cases[0].get("creator")
    made = {}
    if creator:
        os.setegid(creator["gid"])
        os.seteuid(creator["uid"])
        made = {case["id"]: client_socket(case) for case in cases}
        os.seteuid(0)
        os.setegid(0)
    become(cases[0]["as"])
    return [run_case(made.get(case["id"]) or client_socket(case), case) for case in cases]


def connect(cases):
    groups = {}
    for case in cases:
        groups.setdefault(json.dumps([case["as"], case.get("creator"), case["id"] if case.get("alone") else None]), []).append(case)
    pipes = []
    for group in groups.values():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reader)
                with os.fdopen(writer, "w") as out:
                    json.dump(run_group(group), out)
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        pipes.append((child, reader))
    results = []
    for child, reader in pipes:
        with os.fdopen(reader) as answers:
            body = answers.read()
        if os.waitpid(child, 0)[1] != 0:
            sys.exit("a group of cases failed")
        results += json.loads(body)
    return results


# --- many at once ------------------------------------------------------------------------------------------------------------------------


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


def main():
    if sys.argv[1] == "serve":
        serve(json.loads(sys.argv[2]))
    elif sys.argv[1] == "traffic":
        print(json.dumps(traffic(json.loads(sys.stdin.readline()))), flush=True)
    else:
        command = {"connect": connect, "flood": flood}[sys.argv[1]]
        json.dump(command(json.load(sys.stdin)), sys.stdout)


main()
