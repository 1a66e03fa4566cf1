"""The process that decodes compressed pixels: bytes of strangers meet native decoders here and nowhere else.

`decoder.py` runs this file as a script, so it imports numpy and pydicom with its plug-ins, and nothing of medseg. A line of
JSON asks for a frame; a line of JSON answers, and the pixels follow it as they are. Nothing else comes out: standard output
is put aside first, so that what a library prints gets lost, and no answer is ever unpickled.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.pixels import get_decoder
from pydicom.uid import UID

if TYPE_CHECKING:
    from typing import BinaryIO

try:
    import resource
except ImportError:  # Windows: no limit of memory, the limit of time holds
    resource = None

#: The file that was opened last, and what it was then: frames of one file are asked for one after the other.
_open: dict[tuple[str, int, int, int], pydicom.Dataset] = {}


def decode(path: str, syntax: str, frame: int) -> np.ndarray:
    """(rows, cols) stored values of one frame of a file; raises whatever pydicom and its plug-ins raise."""
    is_now = os.stat(path)  # noqa: PTH116  no more imports than needed
    file = (path, is_now.st_ino, is_now.st_size, is_now.st_mtime_ns)
    if file not in _open:
        _open.clear()
        _open[file] = pydicom.dcmread(path, force=True)
    dataset = _open[file]
    if syntax.endswith("1.2.1.99"):  # deflated: pydicom has unpacked the whole data set
        image = dataset.pixel_array
        return image[frame] if image.ndim == 3 else image
    image, _ = get_decoder(UID(syntax)).as_array(dataset, index=frame, raw=True)
    return image


def answer(request: dict[str, Any], base: int) -> tuple[dict[str, Any], np.ndarray | None]:
    """What is said to a request, and the pixels that follow.

    Args:
        request: path, syntax, frame, shape, memory (bytes beyond what this process takes when idle), seconds.
        base: bytes of address space that this process takes when idle, 0 where that is not known.
    """
    _limit(base + request["memory"] if base else None)
    if hasattr(signal, "alarm"):
        signal.alarm(int(request["seconds"]) + 5)  # ends a decoder that hangs also when nobody waits any more
    try:
        image = np.ascontiguousarray(decode(request["path"], request["syntax"], request["frame"]))
        if list(image.shape) != request["shape"]:
            return {"error": f"{image.shape} pixels instead of {tuple(request['shape'])}"}, None
    except MemoryError:
        _open.clear()
        return {"memory": True}, None
    except BaseException as error:  # noqa: BLE001  decoders written in Rust panic with a BaseException
        return {"error": " ".join(str(error).split())[:2000] or type(error).__name__}, None
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        _limit(None)
    return {"dtype": image.dtype.newbyteorder("=").str, "shape": list(image.shape)}, image.astype(
        image.dtype.newbyteorder("="), copy=False
    )


def address_space() -> int:
    """Bytes of address space that this process takes, 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  no more imports than needed
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _limit(size: int | None) -> None:
    """At most so many bytes of address space; None: no limit, until the next request."""
    if resource is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = resource.RLIM_INFINITY if size is None else size
    if hard != resource.RLIM_INFINITY:
        most = hard if size is None else min(size, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer every request until there are no more."""
    base = address_space()
    answers.write(b'{"ready": true}\n')
    answers.flush()
    for line in asked:
        said, image = answer(json.loads(line), base)
        answers.write(json.dumps(said).encode() + b"\n")
        if image is not None:
            answers.write(image.data)
        answers.flush()


def main() -> None:
    """Serve standard input and output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; it ends this one
    if resource is not None:
        for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):  # neither a core dump nor any file is written
            with suppress(OSError, ValueError):
                resource.setrlimit(kind, (0, resource.getrlimit(kind)[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
