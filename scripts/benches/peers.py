"""Peers that medseg does not depend on: fetched for a bench into a folder of their own, without their dependencies."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

FOLDER = Path(sys.prefix) / "bench-peers"
NNUNET = ("nnunetv2==2.8.1", "batchgenerators==0.25.5")


def peer(module: str, *pinned: str):
    """The module, installed first (`pip install --no-deps`) if it is not there; None where that cannot be done."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))  # behind everything else: nothing of medseg's own is replaced
    try:
        return importlib.import_module(module)
    except ImportError:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(FOLDER), *pinned]
        if subprocess.run(pip, check=False, stdout=sys.stderr).returncode:
            return None
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        print(f"{module} does not import: {error}", file=sys.stderr)
        return None
