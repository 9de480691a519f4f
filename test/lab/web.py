"""An HTTP server that tells who asked, and a client that tells what its socket knows.

    web.py serve 8080                                       on sockets of their own for IPv4 and IPv6
    web.py get '[["10.77.0.20", 8080], ["::ffff:10.77.0.20", 8080]]'

`get` prints a JSON list of {status, headers, peer, local} or {error}; an address with a colon takes an IPv6 socket, a mapped one too. The header x-to repeats the
address.
"""

import errno
import json
import selectors
import socket
import sys


def listener(family, address, port):
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((address, port))
    made.listen(64)
    return made


def head(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(4096)
        if not more:
            break
        data += more
    return data.decode().split("\r\n\r\n")[0]


def respond(made):
    connection, source = made.accept()
    with connection:
        connection.settimeout(5)
        try:
            head(connection)
            told = f"x-app-source: {source[0]}\r\nx-app-local: {connection.getsockname()[0]}\r\n"
            connection.sendall(f"HTTP/1.1 200 OK\r\n{told}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        except OSError as error:
            print(error, file=sys.stderr)


def serve(port):
    selector = selectors.DefaultSelector()
    for made in (listener(socket.AF_INET, "0.0.0.0", port), listener(socket.AF_INET6, "::", port)):
        selector.register(made, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            respond(key.fileobj)


def get(host, port):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as made:
        made.settimeout(5)
        try:
            made.connect((host, port))
            ends = {"peer": f"{made.getpeername()[0]}/{made.getpeername()[1]}", "local": made.getsockname()[0]}
            made.sendall(f"GET / HTTP/1.1\r\nhost: web\r\nx-to: {host.removeprefix('::ffff:')}\r\nconnection: close\r\n\r\n".encode())
            first, *lines = head(made).split("\r\n")
            return ends | {"status": int(first.split(" ")[1]), "headers": {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}}
        except OSError as error:
            return {"error": errno.errorcode.get(error.errno, str(error))}


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    print(json.dumps([get(host, port) for host, port in json.loads(sys.argv[2])]))
