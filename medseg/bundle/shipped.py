"""The bundles that come with medseg, and how `-b` finds one. Loads neither torch nor MONAI."""

from __future__ import annotations

import difflib
from pathlib import Path

import medseg
from medseg.errors import BundleError

_PACKAGE = Path(medseg.__file__).parent


def shipped_bundles() -> dict[str, Path]:
    """Name -> folder of every shipped bundle: beside the package in a checkout, inside it in a wheel."""
    for folder in (_PACKAGE / "_shipped" / "bundles", _PACKAGE.parent / "bundles"):
        found = {p.name: p for p in sorted(folder.glob("*")) if config_path(p, "metadata") is not None}
        if found:
            return found
    return {}


def find_bundle(path_or_name: str | Path) -> Path:
    """The folder of a bundle, from its folder or a shipped name.

    Raises:
        BundleError: MS-B101 for an unknown name, with the closest; MS-B102 for a folder that holds no bundle.
    """
    shipped = shipped_bundles()
    if str(path_or_name) in shipped and not config_path(Path(path_or_name), "metadata"):
        return shipped[str(path_or_name)]
    root = Path(path_or_name).expanduser()
    if config_path(root, "metadata") is not None:
        return root.resolve()
    if root.exists():
        raise BundleError(
            "MS-B102",
            "no bundle: configs/metadata.json is missing",
            file=root,
            mend="give the folder that holds configs/, models/ and docs/ (a downloaded zip is unpacked first)",
        )
    close = difflib.get_close_matches(root.name, shipped, n=1)
    known = f"shipped: {', '.join(shipped)}" if shipped else "none is shipped with this installation"
    raise BundleError(
        "MS-B101",
        f"no bundle is named {str(path_or_name)!r}; {known}",
        mend=f"type -b {close[0]}" if close else "type: medseg bundles, or give the folder of a bundle",
    )


def config_path(root: Path, name: str) -> Path | None:
    """`configs/NAME.json`, else .yaml or .yml, None when the bundle has none."""
    paths = (root / "configs" / f"{name}{suffix}" for suffix in (".json", ".yaml", ".yml"))
    return next((path for path in paths if path.is_file()), None)
