"""`python -m lab.engine.host PARENT-PID SOCKET-FD ROOT`: starts engines that have everything imported already.

Most of a small stack's time is importing the SDKs. This process does it once, has one thread, and calls nothing of what
it imported: what it forks is as whole as what was started anew. It ends with the socket, and engines end with it.

On the socket come jobs, one message each: the engine's `arguments`, its `folder`, its `environment` (what differs from
this process's; null removes), and two descriptors, its standard output and error. Back go `{"started": pid}` with a
pidfd, then `{"ended": pid, "code": returncode}`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import selectors
import socket
import sys
from pathlib import Path
from typing import Any, Final

from lab.engine.__main__ import main as run
from lab.process import die_with_parent

MESSAGE_BYTES: Final = 1 << 20
_QUERIES: Final = frozenset({"outputs", "import", "stacks"})
_IMPORT: Final = re.compile(r"^(?:from (pulumi_[\w.]+) import ([\w, ]*)|import (pulumi_\w+))", re.MULTILINE)


def main() -> int:
    """The status of the host, or that of the engine that this process has become."""
    parent, number, root = sys.argv[1:]
    die_with_parent(int(parent))
    arguments = Host(socket.socket(fileno=int(number)), Path(root)).serve()
    return 0 if arguments is None else run(arguments, fork=True)


class Host:
    """Forks one engine per job."""

    def __init__(self, control: socket.socket, root: Path) -> None:
        self._control = control
        self._root = root
        self._pid = os.getpid()
        self._imported = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def serve(self) -> list[str] | None:
        """None when nobody can send jobs any more; in a forked process, the arguments of the engine it is to be."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._control:
                    self._ended(key.fd, key.data)
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 2)
                if not message:
                    return None
                job = json.loads(message)
                if not self._imported and job["arguments"][0] not in _QUERIES:
                    import_sdks(self._root)
                    self._imported = True
                if self._fork(descriptors):
                    self._become(job, descriptors)
                    return list(job["arguments"])

    def _fork(self, descriptors: list[int]) -> bool:
        """Whether this is the new process."""
        pid = os.fork()
        if pid == 0:
            return True
        for each in descriptors:
            os.close(each)
        ended = os.pidfd_open(pid)
        socket.send_fds(self._control, [json.dumps({"started": pid}).encode()], [ended])
        self._selector.register(ended, selectors.EVENT_READ, pid)
        return False

    def _become(self, job: dict[str, Any], descriptors: list[int]) -> None:
        die_with_parent(self._pid)
        os.setsid()
        for target, source in enumerate(descriptors, start=1):
            os.dup2(source, target)
            os.close(source)
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._control:
                os.close(key.fd)
        self._selector.close()
        self._control.close()
        os.chdir(job["folder"])
        for name, value in job["environment"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _ended(self, pidfd: int, pid: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._control.send(json.dumps({"ended": pid, "code": code}).encode())


def import_sdks(root: Path) -> None:
    """What the engine and the project's programs import from packages; not the programs, which may change."""
    # Nothing of it will ever be garbage; looking for that takes time now, and would copy it into every engine later.
    gc.disable()
    importlib.import_module("lab.engine.run")
    importlib.import_module("lab.engine.program")
    for package, names, alone in sorted(sdk_imports(root)):
        module = importlib.import_module(package or alone)
        for name in filter(None, names.replace(" ", "").split(",")):
            # Touched, as an SDK puts off importing its parts.
            getattr(getattr(module, name, None), "__all__", None)
    gc.freeze()
    gc.enable()


def sdk_imports(root: Path) -> set[tuple[str, str, str]]:
    """Each import of an SDK in the project's rooms: `from THIS import THESE`, or `import THIS` in the third place."""
    found: set[tuple[str, str, str]] = set()
    for path in root.glob("*/*.py"):
        found.update(_IMPORT.findall(path.read_text(encoding="utf-8", errors="replace")))
    return found


if __name__ == "__main__":
    sys.exit(main())
