"""
A small proxy with the conduct of linkerd2-proxy as far as redirection goes, for HTTP/1.1: every accept asks SO_ORIGINAL_DST, and an error drops the
connection; the inbound side dials the original destination, which must be an address of the pod; the outbound side refuses targets on loopback. Ports are
Linkerd's: 127.0.0.1:4140, 0.0.0.0:4143, and 0.0.0.0:4191 for /ready and /metrics, which asks nothing. It has no TLS and no routes.

    small-proxy.py NAME ADDRESS...     addresses of the pod (LINKERD2_PROXY_INBOUND_IPS)
"""

import socket
import struct
import sys
import threading
from contextlib import closing

OUTBOUND, INBOUND, ADMIN = 4140, 4143, 4191
SO_ORIGINAL_DST = 80
PATIENCE = 10  # seconds
LONGEST_HEAD = 65536
LENGTH = b"content-length:"

name, *own = sys.argv[1:]
lock = threading.Lock()
counters = {f'{what}{{direction="{direction}"}}': 0 for what in ("request_total", "dropped_total", "refused_total") for direction in ("outbound", "inbound")}


def count(what, direction):
    with lock:
        counters[f'{what}{{direction="{direction}"}}'] += 1


def original(sock):
    raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    return socket.inet_ntoa(raw[4:8]), struct.unpack_from("!H", raw, 2)[0]


def allowed(direction, host, port):
    if direction == "outbound":
        return not host.startswith("127.")
    return host in own and port != INBOUND  # a port that only a peer of the same mesh means, with TLS


def read_head(stream):
    """Its lines; none at the end of the stream."""
    lines = []
    size = 0
    while line := stream.readline(LONGEST_HEAD):
        size += len(line)
        if size > LONGEST_HEAD:
            raise OSError("a head that does not end")
        if line == b"\r\n":
            return lines
        lines.append(line)
    return []


def body_of(stream, head):
    lengths = [int(line[len(LENGTH) :]) for line in head if line.lower().startswith(LENGTH)]
    return stream.read(lengths[0]) if lengths else b""


def forward(client, server, direction, headers):
    """One request after the other, until somebody closes."""
    requests, answers = client.makefile("rb"), server.makefile("rb")
    while head := read_head(requests):
        count("request_total", direction)
        server.sendall(b"".join(head) + b"\r\n" + body_of(requests, head))
        answer = read_head(answers)
        if not answer:
            return
        client.sendall(b"".join(answer + headers) + b"\r\n" + body_of(answers, answer))


def proxy(sock, peer, direction):
    with closing(sock):
        sock.settimeout(PATIENCE)
        try:
            host, port = original(sock)
        except OSError:
            count("dropped_total", direction)
            return
        if not allowed(direction, host, port):
            count("refused_total", direction)
            return
        about = {"sidecar": name, "source": peer[0], "destination": f"{host}:{port}"}
        headers = [f"x-{direction}-{key}: {value}\r\n".encode() for key, value in about.items()]
        try:
            with socket.create_connection((host, port), PATIENCE) as server:
                forward(sock, server, direction, headers)
        except OSError:
            pass  # the client sees that the connection ends


def admin(sock, _peer, _direction):
    with closing(sock):
        sock.settimeout(PATIENCE)
        try:
            ready = (read_head(sock.makefile("rb")) or [b""])[0].startswith(b"GET /ready ")
            with lock:
                body = "ready\n" if ready else "".join(f"{key} {value}\n" for key, value in counters.items())
            sock.sendall(f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        except OSError:
            pass  # nobody waits for the answer any more


def serve(listener, handle, direction):
    while True:  # until the process is ended
        try:
            sock, peer = listener.accept()
        except OSError:
            continue  # it was reset before it was accepted
        threading.Thread(target=handle, args=(sock, peer, direction), daemon=True).start()


def main():
    places = [("127.0.0.1", OUTBOUND, proxy, "outbound"), ("0.0.0.0", INBOUND, proxy, "inbound"), ("0.0.0.0", ADMIN, admin, "")]
    listeners = [(socket.create_server((host, port), backlog=1024), handle, direction) for host, port, handle, direction in places]
    threads = [threading.Thread(target=serve, args=listener) for listener in listeners]
    for thread in threads:
        thread.start()


main()
