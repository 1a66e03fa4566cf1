"""One number for all that a bundle is: a job names it, and a site refuses a job that names another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def bundle_hash(bundle: str | Path) -> str:
    """SHA-256 over every file of a bundle, weights included; 64 hexadecimal digits.

    Of each file, in the order of their names: its path with `/`, a zero byte, its own SHA-256, a line end. Hidden files
    and `__pycache__` are no part of a bundle.

    Args:
        bundle: its folder, or the name of a shipped one.

    Raises:
        BundleError: MS-B101 unknown name, MS-B102 no bundle there.
    """
    root = find_bundle(bundle)
    total = hashlib.sha256()
    for name, path in sorted(_files(root)):
        total.update(f"{name}\0{sha256(path)}\n".encode())
    return total.hexdigest()


def require_hash(bundle: str | Path, expected: str) -> None:
    """Refuse a bundle that is not the one that a job means.

    Args:
        bundle: what lies at this site.
        expected: the hash that the job names.

    Raises:
        BundleError: MS-J010 another bundle, or one that was edited.
    """
    found = bundle_hash(bundle)
    if found != expected:
        raise BundleError(
            "MS-J010",
            f"this bundle is not the one that the job was made for (SHA-256 {found[:12]}, the job names {expected[:12]})",
            file=find_bundle(bundle),
            mend="install the bundle that the consortium agreed on, unchanged; nothing was trained",
        )


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield "/".join(parts), path
