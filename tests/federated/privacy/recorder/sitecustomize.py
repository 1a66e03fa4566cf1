"""Python runs this in every process that has its folder on PYTHONPATH: it keeps a copy of all that NVFLARE sends.

Every message of NVFLARE, whatever its kind, leaves a process as frames through one function, below which only the drivers
(gRPC, TCP, memory) come. Each frame is copied there, before encryption by TLS, to a file a process:

    $MEDSEG_RECORD/PID-ROLE.frames

ROLE says which process it was: NVFLARE's module and the participant's name.
"""

import importlib.abc
import importlib.util
import os
import re
import sys
import threading
from pathlib import Path

TARGET = "nvflare.fuel.f3.sfm.sfm_conn"


def role() -> str:
    """The process in words that are fit for a file name."""
    words = [word for word in sys.orig_argv[1:] if not word.startswith("-")]
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", "+".join(Path(word).name for word in words))[:150]


def record(module) -> None:
    """Wrap the function that every frame goes through."""
    folder = Path(os.environ["MEDSEG_RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{os.getpid()}-{role()}.frames"
    lock = threading.Lock()
    send = module.SfmConnection.send_frame

    def send_frame(self, prefix, headers, payload):
        said = self.headers_to_bytes(headers) or b""
        with lock, kept.open("ab") as file:
            file.write(said + bytes(payload or b""))
        return send(self, prefix, headers, payload)

    module.SfmConnection.send_frame = send_frame


class Finder(importlib.abc.MetaPathFinder):
    """Lets the module be loaded as always, then wraps it."""

    def find_spec(self, name, path=None, target=None):
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            record(module)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("MEDSEG_RECORD"):
    sys.meta_path.insert(0, Finder())
