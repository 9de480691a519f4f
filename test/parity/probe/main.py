"""The probe of the parity tests: listeners that tell each client what they see, and clients that report everything a program can observe.

    main.py serve '{"uid": 1337, "gid": 1337, "listeners": [{"name": "15001", "address": "0.0.0.0", "port": 15001}]}'
    main.py connect < cases.json
    main.py exchange < cases.json     UDP
    main.py attend < questions        one a line, ["connect", cases] or ["exchange", cases]; answers each with a line
    main.py flood < spec.json
    main.py traffic < spec.json       until stdin ends

Errors are names ("ECONNREFUSED"); an address is "a.b.c.d:port" or "[v6]:port". Runs inside the network namespace in question, as root.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # an isolated interpreter leaves it out


def main():
    command = sys.argv[1]
    if command == "serve":
        from listen import serve

        serve(json.loads(sys.argv[2]))
    elif command == "connect":
        from connect import connect

        json.dump(connect(json.load(sys.stdin)), sys.stdout)
    elif command == "exchange":
        from exchange import exchange

        json.dump(exchange(json.load(sys.stdin)), sys.stdout)
    elif command == "attend":
        from connect import connect
        from exchange import exchange

        answers = {"connect": connect, "exchange": exchange}
        for question in sys.stdin:
            about, cases = json.loads(question)
            print(json.dumps(answers[about](cases)), flush=True)
    else:
        from many import flood, traffic

        if command == "flood":
            json.dump(flood(json.load(sys.stdin)), sys.stdout)
        else:
            print(json.dumps(traffic(json.loads(sys.stdin.readline()))), flush=True)


main()
