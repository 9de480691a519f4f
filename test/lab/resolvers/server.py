"""A DNS server whose answers tell who answered and what was asked.

    server.py '{"uid": 1337, "listeners": [{"who": 53, "address": "127.0.0.1", "port": 15053}]}'

Each listener is UDP and TCP. `who` is a byte. The answer to A is 10.TRANSPORT.WHO.CHECK, to AAAA 2001:db8:1:1:TRANSPORT:WHO:CHECK, where TRANSPORT is
53 for UDP and 54 for TCP and CHECK is a sum of the name; to TXT it is a line "who=53 transport=udp id=1234 source=10.77.0.10 port=40000 name=...".
The beginning of a name says what else happens:
    late-   the first query for this name and type is not answered, whichever listener it came to
    fail-   the first query for this name and type is answered with SERVFAIL
    big-    UDP has no room for the answer, TCP has
and a name with a label `nx` does not exist.
"""

import json
import os
import socket
import struct
import sys
import threading
import zlib

A, TXT, AAAA = 1, 16, 28
SERVFAIL, NXDOMAIN = 2, 3
RESPONSE, TRUNCATED = 0x8180, 0x0200
BUFFER = 64 << 20  # ten thousand queries at once must find room, because it is not this program that is tested

first_seen = set()  # shared by all listeners: a client that goes to the next server is answered there


def once(key):
    """True at the first call for this key."""
    if key in first_seen:
        return False
    first_seen.add(key)
    return True


def parse(query):
    """Id, name, type and the question's bytes."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    return struct.unpack_from("!H", query)[0], ".".join(labels), struct.unpack_from("!H", query, at + 1)[0], query[12 : at + 5]


def data(kind, who, transport, name, told):
    """The bytes of the record; empty: there is none of this type."""
    number, check = 53 if transport == "udp" else 54, zlib.crc32(name.lower().encode())
    if kind == A:
        return bytes([10, number, who, check & 0xFF])
    if kind == AAAA:
        return struct.pack("!IIHHI", 0x20010DB8, 0x00010001, number, who, check)
    if kind == TXT:
        text = f"who={who} transport={transport} {told} name={name}".encode()[:255]
        return bytes([len(text)]) + text
    return b""


def answer(query, who, transport, source):
    """The answer; None: silence."""
    number, name, kind, question = parse(query)
    flags, record = RESPONSE, b""
    if name.startswith("late-") and once((name, kind)):
        return None
    if name.startswith("fail-") and once((name, kind)):
        flags |= SERVFAIL
    elif "nx" in name.split("."):
        flags |= NXDOMAIN
    else:
        record = data(kind, who, transport, name, f"id={number} source={source[0].removeprefix('::ffff:')} port={source[1]}")
        if name.startswith("big-") and transport == "udp":
            flags |= TRUNCATED
    header = struct.pack("!HHHHHH", number, flags, 1, 1 if record else 0, 0, 0)
    return header + question + (struct.pack("!HHHIH", 0xC00C, kind, 1, 1, len(record)) + record if record else b"")


def open_socket(listener, kind, uid):
    """Of the uid from its first moment: what the kernel knows as a socket's owner is who made it."""
    os.setegid(uid)
    os.seteuid(uid)
    family = socket.AF_INET6 if ":" in listener["address"] else socket.AF_INET
    made = socket.socket(family, kind)
    os.seteuid(0)
    os.setegid(0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_DGRAM:
        made.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
    made.bind((listener["address"], listener["port"]))
    return made


def serve_udp(made, who):
    while True:
        try:
            query, source = made.recvfrom(4096)
            reply = answer(query, who, "udp", source)
            if reply is not None:
                made.sendto(reply, source)
        except (OSError, IndexError, ValueError, struct.error) as error:
            print(f"udp: {error}", file=sys.stderr, flush=True)


def converse(connection, who, source):
    """One TCP connection: queries with their lengths before them."""
    with connection, connection.makefile("rb") as stream:
        connection.settimeout(10)
        while len(prefix := stream.read(2)) == 2:
            reply = answer(stream.read(struct.unpack("!H", prefix)[0]), who, "tcp", source)
            if reply is not None:
                connection.sendall(struct.pack("!H", len(reply)) + reply)


def serve_tcp(made, who):
    made.listen(1024)
    while True:
        connection, source = made.accept()
        threading.Thread(target=converse, args=(connection, who, source), daemon=True).start()


def main():
    spec = json.loads(sys.argv[1])
    uid = spec.get("uid", 0)
    os.setgroups([])
    work = []
    for listener in spec["listeners"]:
        work.append((serve_udp, open_socket(listener, socket.SOCK_DGRAM, uid), listener["who"]))
        work.append((serve_tcp, open_socket(listener, socket.SOCK_STREAM, uid), listener["who"]))
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    threads = [threading.Thread(target=serve, args=(made, who)) for serve, made, who in work]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


main()
