"""Whether what is installed is what a bundle's metadata asks for. MONAI only prints a line and goes on."""

from __future__ import annotations

from importlib import metadata as installed
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from medseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_KEYS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def required_versions(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Distribution name -> what metadata.json asks for: a version, taken as a minimum, or a PEP 440 specifier."""
    wanted = {name: str(metadata[key]) for key, name in _KEYS.items() if metadata.get(key)}
    packages = metadata.get("required_packages_version")
    return wanted | ({str(k): str(v) for k, v in packages.items()} if isinstance(packages, dict) else {})


def check_versions(metadata: Mapping[str, Any], root: Path) -> None:
    """Refuse a bundle that asks for more than is installed, medseg itself included.

    Raises:
        BundleError: MS-B120 with the pip command; MS-B121 for a version that cannot be read.
    """
    missing = []
    for name, text in required_versions(metadata).items():
        wanted = _specifier(name, text, root)
        try:
            have = Version(installed.version(name))
        except installed.PackageNotFoundError:
            missing.append((name, wanted, "is not installed"))
            continue
        if not wanted.contains(have, prereleases=True):
            missing.append((name, wanted, f"is {have}"))
    if missing:
        what = "; ".join(f"{name} {state}, it asks for {wanted}" for name, wanted, state in missing)
        command = " ".join(f'"{name}{wanted}"' for name, wanted, _ in missing)
        raise BundleError("MS-B120", what, file=root, mend=f"pip install {command}")


def _specifier(name: str, text: str, root: Path) -> SpecifierSet:
    try:
        if text.strip()[:1] in "<>=!~":
            return SpecifierSet(text)
        return SpecifierSet(f">={Version(text)}")
    except (InvalidSpecifier, InvalidVersion) as error:
        raise BundleError(
            "MS-B121",
            f"metadata.json asks for {name} {text!r}, which is no version",
            file=root,
            mend="write a version such as 1.6.1 in metadata.json",
        ) from error
