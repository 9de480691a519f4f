"""Listeners that tell each client what they see. TCP: one JSON line, then an echo; UDP: one JSON datagram for each."""

import json
import os
import selectors
import socket
import struct

from sockets import become, effective, family_of, originals, set_mark, text

IP_PKTINFO = 8
IP_FREEBIND, IPV6_FREEBIND = 15, 78


def listen(spec):
    family = family_of(spec["address"])
    udp = spec.get("protocol") == "udp"
    sock = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if spec.get("reuseport"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(spec.get("v6only", False)))
    sock.bind((spec["address"], spec["port"]))
    sock.setblocking(False)
    if udp:
        # Answers leave by the address that was asked, also where it is of a local route only.
        sock.setsockopt(*((socket.IPPROTO_IPV6, IPV6_FREEBIND) if family == socket.AF_INET6 else (socket.IPPROTO_IP, IP_FREEBIND)), 1)
        sock.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) if family == socket.AF_INET6 else (socket.IPPROTO_IP, IP_PKTINFO)), 1)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
        sock.listen(4096)
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


def asked_address(ancillary):
    """Where a datagram went, and what makes the answer come from there."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, data[:16]), [(level, kind, data)]
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            # Local address first, which the answer wants; then the destination of the header.
            return socket.inet_ntoa(data[8:12]), [(level, kind, struct.pack("=i4s4s", 0, data[4:8], b"\0" * 4))]
    return "unknown", []


def answer(server, label):
    """Tells the sender of each datagram that waits: by whom it was received, what was in it, its source."""
    for _ in range(256):
        try:
            query, ancillary, _flags, peer = server.recvmsg(4096, 256)
        except OSError:  # nothing waits, or an earlier answer was not wanted
            break
        local, how = asked_address(ancillary)
        seen = {"listener": label, "query": query.decode(), "peer": text(peer), "local": f"[{local}]" if ":" in local else local}
        try:
            server.sendmsg([json.dumps(seen).encode()], how, 0, peer)
        except OSError:
            continue


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


def listen_as(spec):
    """(listener, name) of each. Only root may give marks, so sockets with one are made with the server's effective ids."""
    marks = [one.get("mark") for one in spec["listeners"]]
    if not any(mark is not None for mark in marks):
        become(spec)
        return [(listen(one), one["name"]) for one in spec["listeners"]]
    with effective(spec):
        made = [(listen(one), one["name"]) for one in spec["listeners"]]
    for (sock, _), mark in zip(made, marks, strict=True):
        if mark is not None:
            set_mark(sock, mark)
    become(spec)
    return made


def serve(spec):
    record = os.open(spec["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if "record" in spec else None
    selector = selectors.DefaultSelector()
    for sock, name in listen_as(spec):
        selector.register(sock, selectors.EVENT_READ, name)
    print("ready", flush=True)
    while True:  # until the test kills it
        for key, _ in selector.select():
            if key.data is None:
                if not echo(key.fileobj):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
            elif key.fileobj.type == socket.SOCK_DGRAM:
                answer(key.fileobj, key.data)
            else:
                for sock in greet(key.fileobj, key.data, record):
                    selector.register(sock, selectors.EVENT_READ, None)
