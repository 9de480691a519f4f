"""A proxy in one process that says who it is to whoever connects, and shares its socket or lends its namespace as the tests of listeners want it.

    holder.py NAME PORT              listens
    holder.py NAME PORT fork         a child has the socket too and answers as NAME:child
    holder.py NAME PORT enter PATH   the socket is made in that network namespace, where the process does not stay

Prints the ids of the processes that have the socket, which run until they are killed, at most for two minutes.
"""

import ctypes
import json
import os
import signal
import socket
import sys

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def enter(path):
    with open(path, "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def answer(listener, name):
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall((json.dumps({"listener": name}) + "\n").encode())


def main(name, port, how="", path=""):
    signal.alarm(120)
    if how == "enter":
        home = f"/proc/{os.getpid()}/ns/net"
        with open(home, "rb") as namespace:
            enter(path)
            listener = socket.create_server(("0.0.0.0", int(port)))
            libc.setns(namespace.fileno(), CLONE_NEWNET)
    else:
        listener = socket.create_server(("0.0.0.0", int(port)))
    parent = os.getpid()
    child = os.fork() if how == "fork" else -1
    if child == 0:
        signal.alarm(120)  # a fork does not inherit it
        answer(listener, f"{name}:child")
    print(parent, *([child] if child > 0 else []), flush=True)
    answer(listener, name)


main(*sys.argv[1:])
