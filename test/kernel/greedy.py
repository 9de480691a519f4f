"""Wants more memory than its cgroup has, a tenth of the time, so that the rest of the node does not suffer. Ends after a minute at most.

    greedy.py FILE SECONDS      FILE is made, and is larger than the cgroup's memory
"""

import mmap
import os
import random
import sys
import time

SIZE = 96 << 20


def main(path, seconds):
    with open(path, "wb") as file:
        for _ in range(SIZE >> 20):
            file.write(os.urandom(1 << 20))
    end = time.monotonic() + min(60, float(seconds))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ) as pages:
        while time.monotonic() < end:
            busy = time.monotonic() + 0.1
            while time.monotonic() < busy:
                pages[random.randrange(SIZE)]
            time.sleep(0.9)


main(*sys.argv[1:])
