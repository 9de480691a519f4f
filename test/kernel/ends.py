"""Sockets of both families: `ends.py serve SPEC` listens and tells each client what it sees; `ends.py connect CASES` connects and tells what it got.

A listener: {"name", "address", "port", "only6"}. A case: {"family": 4 | 6, "to": [host, port], "bind": [host, port], "only6", "again": [host, port]}.
"""

import errno
import json
import os
import socket
import struct
import sys
import threading


def name(error):
    return "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode.get(error.errno, str(error.errno))


def text(address):
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def original(sock, level, size):
    try:
        raw = sock.getsockopt(level, 80, size)
    except OSError as error:
        return name(error)
    if struct.unpack_from("=H", raw)[0] == socket.AF_INET6:
        return text((socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack_from("!H", raw, 2)[0]))
    return text((socket.inet_ntoa(raw[4:8]), struct.unpack_from("!H", raw, 2)[0]))


def originals(sock):
    return {
        "ip": original(sock, socket.SOL_IP, 16),
        "ipv6": original(sock, socket.IPPROTO_IPV6, 28),
        "short ip": original(sock, socket.SOL_IP, 15),
        "short ipv6": original(sock, socket.IPPROTO_IPV6, 27),
    }


def made(spec, family):
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if spec.get("only6") else 0)
    return sock


def serve(specs):
    def answer(sock, spec):
        while True:
            client, peer = sock.accept()
            seen = {"listener": spec["name"], "peer": text(peer), "own": text(client.getsockname()), "original": originals(client)}
            try:
                client.sendall(json.dumps(seen).encode() + b"\n")
            except OSError:
                pass  # it did not wait for that
            client.close()

    for spec in specs:
        sock = made(spec, socket.AF_INET6 if ":" in spec["address"] else socket.AF_INET)
        sock.bind((spec["address"], spec["port"]))
        sock.listen(64)
        threading.Thread(target=answer, args=(sock, spec), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def connect(case):
    sock = made(case, socket.AF_INET if case["family"] == 4 else socket.AF_INET6)
    sock.settimeout(3)
    try:
        if case.get("bind"):
            sock.bind(tuple(case["bind"]))
        sock.connect(tuple(case["to"]))
        if case.get("again"):
            sock.recv(4096)
            libc = __import__("ctypes").CDLL(None, use_errno=True)
            libc.connect(sock.fileno(), struct.pack("=H30x", socket.AF_UNSPEC), 32)
            sock.connect(tuple(case["again"]))
        own, peer, asked = text(sock.getsockname()), text(sock.getpeername()), originals(sock)
        seen = sock.makefile().readline()
        return {"own": own, "peer": peer, "original": asked, "seen": json.loads(seen) if seen else None}
    except TimeoutError:
        return {"error": "timeout"}
    except OSError as error:
        return {"error": name(error)}
    finally:
        sock.close()


if sys.argv[1] == "serve":
    who = json.loads(sys.argv[2])
    os.setgroups([])
    if len(sys.argv) > 3:
        os.setresgid(int(sys.argv[3]), int(sys.argv[3]), int(sys.argv[3]))
        os.setresuid(int(sys.argv[3]), int(sys.argv[3]), int(sys.argv[3]))
    serve(who)
else:
    print(json.dumps([connect(case) for case in json.loads(sys.argv[2])]))
