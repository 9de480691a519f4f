"""DNS queries with sockets of one's own, as programs do it that bring their own resolver.

    ask.py '[{"how": "connected", "servers": ["10.77.0.61"]}, ...]'

`how` is one of:
    connected    send and recv
    bound        the same, with a bind to port 0 before
    reconnect    one socket, connected to each server in turn, with a disconnect between
    unconnected  one socket asks all servers in turn, sendto and recvfrom
    together     one socket asks all servers before it reads
    pktinfo      sendmsg, and recvmsg with the local address
    strayed      connected to the first server, and sendto all of them
Prints a JSON list: for each case a list of {server, source, text, id, sent, local, peer, peerPort} or {server, error}. Sockets are IPv6 where a server's
address has a colon.
"""

import errno
import json
import socket
import struct
import sys

IPV6_RECVPKTINFO, IPV6_PKTINFO, IP_PKTINFO = 49, 50, 8
TXT = 16
number = 0


def query(name):
    global number
    number += 1
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return number, struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", TXT, 1)


def text_of(answer):
    """The first string of the answer's TXT record, which is the last thing in it."""
    at = 12
    while answer[at]:
        at += 1 + answer[at]
    at += 5 + 12
    return answer[at + 1 : at + 1 + answer[at]].decode()


def told(server, sent, answer, source):
    return {"server": server, "source": source, "id": struct.unpack_from("!H", answer)[0], "sent": sent, "text": text_of(answer)}


def open_socket(servers):
    made = socket.socket(socket.AF_INET6 if any(":" in each for each in servers) else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(3)
    return made


def name_for(server, how):
    return f"{how}-{server.replace(':', '_').replace('.', '_')}.test"


def endpoints(made):
    return {"local": made.getsockname()[0], "peer": made.getpeername()[0], "peerPort": made.getpeername()[1]}


def exchange(made, server, how):
    """On a connected socket."""
    sent, data = query(name_for(server, how))
    made.send(data)
    answer, source = made.recvfrom(4096)
    return told(server, sent, answer, source[0]) | endpoints(made)


def connected(servers):
    for server in servers:
        with open_socket(servers) as made:
            made.connect((server, 53))
            yield exchange(made, server, "connected")


def bound(servers):
    """As dig and Java do it: a port first, and the server then."""
    for server in servers:
        with open_socket(servers) as made:
            made.bind(("::" if made.family == socket.AF_INET6 else "0.0.0.0", 0))
            made.connect((server, 53))
            yield exchange(made, server, "bound")


def disconnect(made):
    import ctypes

    unspec = struct.pack("H14x", socket.AF_UNSPEC) + bytes(12)
    if ctypes.CDLL(None, use_errno=True).connect(made.fileno(), unspec, len(unspec)) != 0:
        raise OSError(ctypes.get_errno(), "disconnect")


def reconnect(servers):
    with open_socket(servers) as made:
        for server in servers:
            made.connect((server, 53))
            yield exchange(made, server, "reconnect")
            disconnect(made)


def unconnected(servers):
    with open_socket(servers) as made:
        for server in servers:
            sent, data = query(name_for(server, "unconnected"))
            made.sendto(data, (server, 53))
            answer, source = made.recvfrom(4096)
            yield told(server, sent, answer, source[0])


def together(servers):
    """One id for all, as musl does."""
    with open_socket(servers) as made:
        sent, data = query(name_for("all", "together"))
        for server in servers:
            made.sendto(data, (server, 53))
        answers = [made.recvfrom(4096) for _ in servers]
        for (answer, source), server in zip(sorted(answers, key=lambda each: servers.index(each[1][0])), servers):
            yield told(server, sent, answer, source[0])


def pktinfo(servers):
    with open_socket(servers) as made:
        v6 = made.family == socket.AF_INET6
        level, option, kind = (socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, IPV6_PKTINFO) if v6 else (socket.IPPROTO_IP, IP_PKTINFO, IP_PKTINFO)
        made.setsockopt(level, option, 1)
        for server in servers:
            sent, data = query(name_for(server, "pktinfo"))
            made.sendmsg([data], [], 0, (server, 53))
            answer, _, _, source = made.recvmsg(4096, 256)
            yield told(server, sent, answer, source[0])


def strayed(servers):
    with open_socket(servers) as made:
        made.connect((servers[0], 53))
        made.settimeout(1)
        for server in servers:
            sent, data = query(name_for(server, "strayed"))
            made.sendto(data, (server, 53))
            try:
                answer, source = made.recvfrom(4096)  # a connected socket hears its own peer only
                yield told(server, sent, answer, source[0])
            except TimeoutError:
                yield {"server": server, "error": "silence"}


def run(case):
    answers = []
    ways = {each.__name__: each for each in (connected, bound, reconnect, unconnected, together, pktinfo, strayed)}
    try:
        for answer in ways[case["how"]](case["servers"]):
            answers.append(answer)
    except OSError as error:
        answers.append({"server": case["servers"][len(answers)], "error": "silence" if error.errno is None else errno.errorcode[error.errno]})
    return answers


print(json.dumps([run(case) for case in json.loads(sys.argv[1])]))
