"""What listeners and clients share: identities, addresses as text, errors as names, SO_ORIGINAL_DST."""

import ctypes
import errno
import os
import socket
import struct
from contextlib import contextmanager

SO_ORIGINAL_DST = 80
SO_MARK = 36
PATIENCE = 1.5  # seconds for any one step
LONG_PATIENCE = 5  # where an answer comes: on a machine that has much else to do it may come late, and silence would look like a difference
libc = ctypes.CDLL(None, use_errno=True)


def name(error):
    number = error if isinstance(error, int) else error.errno
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))  # Python's table says ENOTSUP


def text(address):
    """a.b.c.d:port or [v6]:port, with the interface's name where an address has a scope"""
    host, port = address[:2]
    if ":" not in host:
        return f"{host}:{port}"
    scope = address[3] if len(address) > 3 else 0
    return f"[{host.split('%')[0]}{'%' + socket.if_indextoname(scope) if scope else ''}]:{port}"


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def sockaddr(endpoint):
    """For bind and connect, of "a.b.c.d", "v6" or "fe80::1%eth0"."""
    host, port = endpoint
    if ":" not in host:
        return host, port
    bare, _, scope = host.partition("%")
    return bare, port, 0, socket.if_nametoindex(scope) if scope else 0


def attempt(call):
    try:
        return call()
    except OSError as error:
        return name(error)


def become(who):
    """All of real, effective, saved and file-system ids; `real_uid` keeps another real uid."""
    os.setgroups([])
    os.setresgid(who["gid"], who["gid"], who["gid"])
    os.setresuid(who.get("real_uid", who["uid"]), who["uid"], who["uid"])


@contextmanager
def effective(who):
    """Of root, for a while: what is made now has these ids."""
    os.setegid(who["gid"])
    os.seteuid(who["uid"])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def set_mark(made, mark):
    """SO_MARK of a socket or of several; it needs CAP_NET_ADMIN."""
    for sock in made if isinstance(made, list) else [made]:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))


def disconnect(sock):
    unspecified = (ctypes.c_ubyte * 16)()
    if libc.connect(sock.fileno(), unspecified, 16) != 0:
        raise OSError(ctypes.get_errno(), "disconnect")


def patience_of(case):
    """Cases that may end in silence are `alone`."""
    return PATIENCE if case.get("alone") else LONG_PATIENCE


def new_socket(kind, case, first):
    """Of the family of the first address that it is to use; `v6only` is for those of IPv6."""
    family = family_of(first)
    sock = socket.socket(family, kind)
    seconds = patience_of(case) if kind == socket.SOCK_STREAM else PATIENCE
    patience = struct.pack("=qq", int(seconds), int(seconds % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(case.get("v6only", False)))
    return sock


def prepare(sock, case):
    if "device" in case:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, case["device"].encode())
    if "bind" in case:
        sock.bind(sockaddr(case["bind"]))


def original(sock, level, size):
    """What getsockopt(SO_ORIGINAL_DST) answers, with the length that it returned."""

    def ask():
        raw = sock.getsockopt(level, SO_ORIGINAL_DST, size)
        family = struct.unpack_from("=H", raw)[0] if len(raw) >= 2 else 0
        port = struct.unpack_from("!H", raw, 2)[0] if len(raw) >= 4 else 0
        if family == socket.AF_INET6 and len(raw) >= 28:
            flow, scope = struct.unpack_from("!I", raw, 4)[0], struct.unpack_from("=I", raw, 24)[0]
            address = text((socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, flow, scope)) + (f" flow {flow}" if flow else "")
        else:
            address = f"{socket.inet_ntoa(raw[4:8])}:{port}"
        return f"{address} ({len(raw)} bytes)"

    return attempt(ask)


def originals(sock):
    """Only sockets that may have an IPv6 origin are asked for it with every size."""
    sixes = [16, 27, 28, 32, 128] if sock.family == socket.AF_INET6 else [28]
    return {
        **{str(size): original(sock, socket.SOL_IP, size) for size in (8, 15, 16, 32, 128)},
        **{f"v6 {size}": original(sock, socket.IPPROTO_IPV6, size) for size in sixes},
        "socket": attempt(lambda: sock.getsockopt(socket.SOL_SOCKET, SO_ORIGINAL_DST, 16).hex()),
    }
