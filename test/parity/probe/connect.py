"""Clients that report everything a program can observe: one case after the other, each identity in a process of its own."""

import errno
import json
import selectors
import socket

from groups import as_identity, in_groups
from sockets import PATIENCE, attempt, disconnect, name, new_socket, originals, patience_of, prepare, sockaddr, text

SYN_DATA_ACKED = 32  # TCPI_OPT_SYN_DATA of tcpi_options


def client_socket(case):
    sock = new_socket(socket.SOCK_STREAM, case, case["to"][0][0])
    if "bind" in case and case["bind"][1]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


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
            sock.sendto(b"early", socket.MSG_FASTOPEN, sockaddr(to))
        else:
            sock.connect(sockaddr(to))
        return None, "connect"
    except BlockingIOError as error:
        if error.errno != errno.EINPROGRESS:
            return name(error), "connect"
        if not case.get("nonblock"):
            return "TIMEOUT", "connect"  # SO_SNDTIMEO of a blocking connect
    except OSError as error:
        return name(error), "connect"
    late = wait_connected(sock, patience_of(case))
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
    return [run_case(sock, case) for case, sock in as_identity(cases, client_socket)]


def connect(cases):
    return in_groups(cases, run_group)
