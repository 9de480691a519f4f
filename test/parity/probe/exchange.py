"""UDP clients: each case is a list of steps with one or more sockets, and tells what each step gave."""

import ctypes
import errno
import json
import os
import select
import socket
import struct

from groups import as_identity, in_groups
from listen import IP_PKTINFO, asked_address
from sockets import attempt, disconnect, libc, name, new_socket, originals, prepare, sockaddr, text

IP_RECVERR, IPV6_RECVERR = 11, 25
SILENCE = 0.7  # seconds without an answer


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("name_length", ctypes.c_uint),
        ("vector", ctypes.POINTER(Iovec)),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),  # an int, and what aligns the next field
        ("sent", ctypes.c_size_t),
    ]


def raw_address(endpoint):
    address = sockaddr(endpoint)
    if len(address) == 2:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1]) + socket.inet_aton(address[0]) + bytes(8)
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", address[1], 0)
    return head + socket.inet_pton(socket.AF_INET6, address[0]) + struct.pack("=I", address[3])


def marked(case, data):
    """Says whose query it is: servers repeat it, and an answer to another case's socket is told as such."""
    return f"{data}#{case['id']}".encode()


def without_mark(case, sent):
    """The length of what was sent, as the case has it."""
    return str(sent - len(marked(case, "")))


def send_several(sock, case, datagrams):
    """sendmmsg(2): how many were sent, or the error of the first."""
    messages = (Message * len(datagrams))()
    for message, (data, *endpoint) in zip(messages, datagrams, strict=True):
        where = raw_address(endpoint)
        body = marked(case, data)
        message.name, message.name_length = where, len(where)
        message.vector, message.count = ctypes.pointer(Iovec(body, len(body))), 1
    sent = libc.sendmmsg(sock.fileno(), messages, len(datagrams), 0)
    return name(ctypes.get_errno()) if sent < 0 else str(sent)


def send_with_source(sock, body, to, source):
    """The source by IP_PKTINFO or IPV6_PKTINFO."""
    if sock.family == socket.AF_INET6:
        info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, source) + bytes(4))
    else:
        info = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", 0, socket.inet_aton(source), bytes(4)))
    return sock.sendmsg([body], [info], 0, sockaddr(to))


def receive_one(sock, case, patience):
    ready = select.select([sock], [], [], patience)[0]
    if not ready:
        return "TIMEOUT"
    sock.setblocking(False)
    try:
        data, ancillary, _flags, peer = sock.recvmsg(4096, 512)
    except OSError as error:
        return name(error)
    finally:
        sock.setblocking(True)
    answer = {**json.loads(data), "from": text(peer)}
    answer["query"], _, asked = answer["query"].partition("#")
    if asked != case["id"]:
        answer["listener"] += f", for {asked}"
    if ancillary:
        arrived = asked_address(ancillary)[0]
        answer["arrived"] = f"[{arrived}]" if ":" in arrived else arrived
    return answer


def receive(sock, case, count, patience):
    """So many answers, in the order of the queries' names: two servers may be differently fast."""
    found = []
    for _ in range(count):
        found.append(receive_one(sock, case, patience))
        if found[-1] == "TIMEOUT":
            break
    return sorted(found, key=lambda each: each["query"] if isinstance(each, dict) else "")


def error_queue(sock):
    """The first entry of MSG_ERRQUEUE: error, whose fault (the offender), and where the datagram was to go."""
    try:
        _data, ancillary, _flags, peer = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return "empty"
    level, kind, data = ancillary[0]
    number, _origin, _type, _code = struct.unpack_from("=IBBB", data)
    ipv6 = (level, kind) == (socket.IPPROTO_IPV6, IPV6_RECVERR)
    offender = socket.inet_ntop(socket.AF_INET6, data[24:40]) if ipv6 else socket.inet_ntoa(data[20:24])
    return f"{name(number)} of {f'[{offender}]' if ':' in offender else offender}, to {text(peer)}"


def want(sock, what):
    """Turns on errors ("errors") or the arrival's address ("info")."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, {"errors": IPV6_RECVERR, "info": socket.IPV6_RECVPKTINFO}[what], 1)
    if what == "errors" or sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, {"errors": IP_RECVERR, "info": IP_PKTINFO}[what], 1)


def names(sock):
    return {"local": attempt(lambda: text(sock.getsockname())), "peer": attempt(lambda: text(sock.getpeername()))}


def step(sock, case, what, sent):
    """`sent`: the last sending step did, so an answer may come."""
    do = what["do"]
    if do == "connect":
        return sock.connect(sockaddr(what["to"])) or "done"
    if do == "disconnect":
        return disconnect(sock) or "done"
    if do == "send":
        return without_mark(case, sock.send(marked(case, what["data"])))
    if do == "sendto":
        body = marked(case, what["data"])
        if "source" in what:
            return without_mark(case, send_with_source(sock, body, what["to"], what["source"]))
        return without_mark(case, sock.sendto(body, sockaddr(what["to"])))
    if do == "several":
        return send_several(sock, case, what["datagrams"])
    if do == "recv":
        return receive(sock, case, what.get("count", 1), SILENCE if sent else 0)
    if do == "want":
        return want(sock, what["what"]) or "done"
    return {"names": names, "origin": originals, "errqueue": error_queue}[do](sock)


def client_sockets(case):
    return [new_socket(socket.SOCK_DGRAM, case, "::" if case["family"] == 6 else "0.0.0.0") for _ in range(case.get("sockets", 1))]


def run_case(made, case):
    steps = []
    ports = set()
    sent = False
    try:
        for sock in made:
            prepare(sock, case)
    except OSError as error:
        return {"id": case["id"], "steps": [name(error)], "ports": []}
    for what in case["steps"]:
        sock = made[what.get("on", 0)]
        steps.append(attempt(lambda: step(sock, case, what, sent)))
        if "data" in what or "datagrams" in what:
            sent = steps[-1].isdigit()
        ports.add(sock.getsockname()[1])  # a disconnect gives the port up
    for sock in made:
        sock.close()
    return {"id": case["id"], "steps": steps, "ports": sorted(ports - {0})}


def run_group(cases):
    return [run_case(made, case) for case, made in as_identity(cases, client_sockets)]


def exchange(cases):
    return in_groups(cases, run_group)
