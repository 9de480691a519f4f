"""Both ends of one TCP connection, which talk as often as they are told: a line N on standard input is N messages there and N back, then a line "N".

    chat.py ADDRESS PORT

Ends when its input does, at most after four minutes.
"""

import select
import signal
import socket
import sys

SIZE = 100


def send(sender, receiver, payload):
    sender.sendall(payload)
    got = b""
    while len(got) < len(payload):
        readable, _, _ = select.select([receiver], [], [], 10)
        if not readable:
            sys.exit("nothing arrives")
        got += receiver.recv(65536)
    if got != payload:
        sys.exit("other bytes arrive")


def main(address, port):
    signal.alarm(240)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener, client = socket.socket(family), socket.socket(family)
    for each in (listener, client):
        each.setblocking(False)  # as proxies are from the beginning
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(port)))
    listener.listen()
    client.connect_ex((address, int(port)))
    select.select([listener], [], [], 10)
    server, _ = listener.accept()
    for end in (client, server):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        for message in range(int(line)):
            payload = f"{number} {message} ".encode().ljust(SIZE, b"x")
            send(client, server, payload)
            send(server, client, payload)
        print(int(line), flush=True)


main(*sys.argv[1:])
