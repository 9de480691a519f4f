"""Looks all names up at once, with getaddrinfo in threads: lines "NAME ADDRESS" or "NAME !ERROR"."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor


def lookup(name):
    try:
        return [f"{name} {found[4][0]}" for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except OSError as error:
        return [f"{name} !{error}"]


with ThreadPoolExecutor(16) as pool:
    for lines in pool.map(lookup, sys.argv[1:]):
        print("\n".join(lines))
