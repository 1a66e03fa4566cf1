"""plans.json: which configuration a model was trained with, its parents' entries included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Readers whose arrays are the file's own, reversed; the second kind turns images to RAS first.
AS_STORED = ("SimpleITKIO", "NibabelIO")
REORIENTED = ("SimpleITKIOWithReorient", "NibabelIOWithReorient")


def configuration_of(plans: Mapping[str, Any], name: str, root: Path) -> dict[str, Any]:
    """One configuration with what it inherits.

    Args:
        plans: plans.json.
        name: such as "3d_fullres".
        root: of messages.

    Raises:
        BundleError: MS-B153 plans.json has no such configuration, or it inherits in a circle; MS-B154 it is one of 2D
            slices, or the second stage of a cascade.
    """
    known = plans.get("configurations")
    known = known if isinstance(known, dict) else {}
    chain: list[str] = []
    at: Any = name
    while at is not None:
        if at not in known or at in chain:
            what = "inherits from itself" if at in chain else "is not in plans.json"
            raise BundleError(
                "MS-B153",
                f"the configuration {at!r} {what}; plans.json has {', '.join(known) or 'none'}",
                file=root / "plans.json",
                mend="take the plans.json that this model was trained with",
            )
        chain.append(at)
        at = known[at].get("inherits_from")
    merged: dict[str, Any] = {}
    for one in reversed(chain):
        merged |= known[one]
    if len(merged.get("patch_size", ())) == 2:
        raise _refused(root, f"{name} segments slice by slice, and medseg segments volumes", "3d_fullres")
    if merged.get("previous_stage"):
        what = f"{name} is the second stage of a cascade: it also takes the output of {merged['previous_stage']}"
        raise _refused(root, what, "3d_fullres or 3d_lowres")
    return merged


def entry(table: Mapping[str, Any], key: str, root: Path) -> Any:
    """An entry that must be there.

    Raises:
        BundleError: MS-B155.
    """
    if key not in table:
        raise unknown(root, f"`{key}` is missing")
    return table[key]


def unknown(root: Path, what: str) -> BundleError:
    """MS-B155: the model was made with something that medseg does not have."""
    return BundleError(
        "MS-B155",
        f"plans.json asks for what medseg does not know: {what}",
        file=root,
        mend="models of nnU-Net's own planners, readers and networks can be imported; for this one use nnU-Net itself",
    )


def axcodes_of(plans: Mapping[str, Any], root: Path) -> str | None:
    """Directions that nnU-Net's reader turned images to; None where it took them as stored.

    Raises:
        BundleError: MS-B155 it is a reader of 2D pictures or of the user's own.
    """
    reader = str(plans.get("image_reader_writer", AS_STORED[0]))
    if reader in REORIENTED:
        return "RAS"
    if reader not in AS_STORED:
        raise unknown(root, f"the reader {reader}")
    return None


def _refused(root: Path, what: str, instead: str) -> BundleError:
    return BundleError("MS-B154", what, file=root, mend=f"import a model of the configuration {instead} instead")
