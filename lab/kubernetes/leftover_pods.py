"""What the pods of a site that was killed have left on this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil

from lab.kubernetes.kubelet import Folders
from lab.kubernetes.pod import IDENTITY
from lab.kubernetes.run import POD_UID, gone, kill_marked
from lab.kubernetes.volumes import shared_memory_of

log = logging.getLogger(__name__)


async def clear(folders: Folders) -> None:
    """End and remove it: processes, those that stand still too, shared memory and the pods' folders."""
    if not folders.pods.is_dir():
        return
    for folder in folders.pods.iterdir():
        left = kill_marked(POD_UID, folder.name)
        if left:
            log.warning("pod %s of an earlier life still had processes %s", folder.name, left)
            await gone(left)
        with contextlib.suppress(OSError, ValueError, KeyError):
            name = json.loads((folder / IDENTITY).read_text())["name"]
            for segment in shared_memory_of(name, ()):
                segment.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
