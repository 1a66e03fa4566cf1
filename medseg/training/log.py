"""What a training says: medseg's own lines on the screen, those of every library in a file of the run.

MONAI, ignite, pydicom and others log and warn by the dozen. Little of it concerns who trains, all of it who looks for a fault.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The file, in the folder of the run.
FILE = "training/log.txt"


@contextmanager
def on_screen() -> Iterator[None]:
    """Medseg's lines go to standard error, unless they do already: the program's own logging shows them, or `--debug`."""
    own = logging.getLogger("medseg")
    if _shown(logging.getLogger()) or _shown(own):
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = own.level
    own.addHandler(handler)
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        own.removeHandler(handler)
        own.setLevel(level)


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Every line of level INFO, and every warning that is not switched off, is added to a file.

    Handlers that are there hear no more than before.
    """
    root = logging.getLogger()
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level, others = root.level, [(one, one.level) for one in root.handlers]
    for one, of in others:
        one.setLevel(max(of, level))
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
        for one, of in others:
            one.setLevel(of)


def _shown(logger: logging.Logger) -> bool:
    return any(isinstance(one, logging.StreamHandler) and one.stream is sys.stderr for one in logger.handlers)
