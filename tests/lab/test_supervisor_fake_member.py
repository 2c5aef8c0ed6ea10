"""A lab process for the supervisor's tests: `python -m tests.lab.test_supervisor_fake_member`; holds no test itself."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time

from lab.leftovers import SHARED_MEMORY

POD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"
POD_WITH_SEGMENT = """
import mmap, os, sys, time
with open(sys.argv[1], "w+b") as segment:
    segment.truncate(4096)
    held = mmap.mmap(segment.fileno(), 4096)
time.sleep(120)
"""


def end(*_: object) -> None:
    print("ending", file=sys.stderr, flush=True)
    sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--listen", default="")
    parser.add_argument("--mode", default="good")
    parser.add_argument("--segment", default="")
    given = parser.parse_args()
    print("starting", os.environ.get("AWS_PROFILE"), os.environ["AWS_ACCESS_KEY_ID"], file=sys.stderr, flush=True)
    if given.mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, end)
    if given.mode == "dies":
        sys.exit("cannot open the thing: give it a thing")
    if given.mode == "never ready":
        time.sleep(120)
    if given.listen:
        listener = socket.create_server((given.listen, 7777))
        assert listener
    if given.mode == "pods":  # one that ignores SIGTERM and is bound to no parent
        subprocess.Popen([sys.executable, "-c", POD])
    if given.segment:
        path = SHARED_MEMORY / given.segment
        subprocess.Popen([sys.executable, "-c", POD_WITH_SEGMENT, str(path)])
        while not path.exists():
            time.sleep(0.01)
    print("some line\nready", flush=True)
    time.sleep(120)


if __name__ == "__main__":
    main()
