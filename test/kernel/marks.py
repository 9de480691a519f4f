"""Clients with marks: `marks.py CASES` makes each and tells the listener that answered each step, or the error.

A case is a list of steps on one socket: ["tcp" | "udp" | "mptcp", 4 | 6] makes it; ["mark", N]; ["bind", host]; ["transparent", host] binds an address that is not the
pod's; ["connect", host, port]; ["disconnect"]; ["send"] a query to the peer of a UDP socket; ["sendto", host, port]; ["message", N, host, port] a query that
brings its own mark. What connects or sends gives a word.
"""

import ctypes
import errno
import json
import select
import socket
import struct
import sys

IPPROTO_MPTCP = 262
SO_MARK, IP_TRANSPARENT, IPV6_TRANSPARENT = 36, 19, 75
PATIENCE = 0.7
libc = ctypes.CDLL(None, use_errno=True)


def listener(sock):
    """Who answers, if anybody does."""
    if not select.select([sock], [], [], PATIENCE)[0]:
        return "TIMEOUT"
    data = sock.recv(4096)
    return json.loads(data.split(b"\n")[0])["listener"] if data else "EOF"


def connect(sock, host, port):
    sock.connect((host, port))
    return listener(sock) if sock.type == socket.SOCK_STREAM else None


def transparent(sock, host):
    level, option = (socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if ":" in host else (socket.IPPROTO_IP, IP_TRANSPARENT)
    sock.setsockopt(level, option, 1)
    sock.bind((host, 0))


def disconnect(sock):
    if libc.connect(sock.fileno(), struct.pack("=H30x", socket.AF_UNSPEC), 32):
        raise OSError(ctypes.get_errno(), "")


def send(sock):
    sock.send(b"q")
    return listener(sock)


def sendto(sock, host, port):
    sock.sendto(b"q", (host, port))
    return listener(sock)


def message(sock, mark, host, port):
    sock.sendmsg([b"q"], [(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))], 0, (host, port))
    return listener(sock)


steps = {
    "mark": lambda sock, mark: sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark)),
    "bind": lambda sock, host: sock.bind((host, 0)),
    "transparent": transparent,
    "connect": connect,
    "disconnect": disconnect,
    "send": send,
    "sendto": sendto,
    "message": message,
}


kinds = {"tcp": (socket.SOCK_STREAM,), "udp": (socket.SOCK_DGRAM,), "mptcp": (socket.SOCK_STREAM, IPPROTO_MPTCP)}


def run(case):
    (kind, family), *rest = case
    told = []
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, *kinds[kind]) as sock:
        sock.settimeout(PATIENCE)
        for step, *words in rest:
            try:
                told += filter(None, [steps[step](sock, *words)])
            except TimeoutError:
                told.append("TIMEOUT")
            except OSError as error:
                told.append(errno.errorcode.get(error.errno, str(error.errno)))
    return told


print(json.dumps([run(case) for case in json.loads(sys.argv[1])]))
