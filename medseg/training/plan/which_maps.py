"""What is said of images with no label map or with several, and of how those that are taken were told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.training.plan.choice import Choice, many
from medseg.training.plan.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.readers.cases.kinds import Kind

#: So many names stand in one message.
_SHOWN = 5
_LIST = "say which it is in a CSV list with name, image and label"


def without_label(case: Case, kind: Kind | None, annotators: Sequence[str] = ()) -> Problem:
    """MS-T141: an image without a label map, or with several of which none was taken.

    Args:
        case: without a label.
        kind: of the others' label maps. A case with none of it is left out, and nothing is wrong.
        annotators: who have folders of label maps beside the image's.
    """
    file = str(case.images[0]) if case.images else ""
    if annotators:
        mend = f"say how to fuse those of {', '.join(annotators)}: --annotators staple"
        return Problem("MS-T141", "this image has no label map of its name", file, mend, case.name)
    if not case.maps:
        mend = f"add its label map, take the image out, or {_LIST}"
        return Problem("MS-T141", "this image has no label map of its name", file, mend, case.name)
    held = f"{many(len(case.maps), 'label map')} ({_names(case.maps)})"
    if kind is not None and not kind.among(case):
        what = f"left out: it has {held}, none of the kind that was taken of the others, {'_'.join(kind.words)}"
        return Problem("MS-T141", what, file, f"to use it, {_LIST}", case.name, note=True)
    if kind is not None:
        what = f"this image has {len(kind.among(case))} label maps of one kind ({_names(kind.among(case))})"
    else:
        what = f"this image has {held}, and no kind of label map is more common than the others"
    return Problem("MS-T141", what, file, f"move the others away, or {_LIST}", case.name)


def of_another_kind(cases: Sequence[Case], kind: Kind | None) -> list[Problem]:
    """MS-T141, notes: images whose only label map is called otherwise than those that were taken of the others."""
    if kind is None:
        return []
    what = f"its only label map is taken, although it is of another kind than the others', {'_'.join(kind.words)}"
    mend = "look whether it shows the same structures, or take the image out"
    return [
        Problem("MS-T141", f"{what}: {case.label.name}", str(case.label), mend, case.name, note=True)
        for case in cases
        if case.label is not None and not kind.among(case)
    ]


def map_choices(cases: Sequence[Case], kind: Kind | None) -> list[Choice]:
    """How label maps were told, where that was not plain: of several those of a kind, and those that lie on an image's grid."""
    found = []
    several = [case for case in cases if len(case.maps) > 1]
    if kind is not None and several:
        unused = [file for case in several for file in case.maps if file != case.label]
        how = "of which most images have one" if kind.exact else "with which those of most images begin"
        why = f"of several label maps the kind {how}, told by the files' names; not used: {_names(unused)}"
        found.append(Choice("label maps", "_".join(kind.words) or "called as their images", why))
    paired = [case.label for case in cases if case.label is not None and case.label in case.by_grid]
    if paired:
        why = "their names name no image, and each lies on the grid of one image of its examination"
        found.append(Choice("pairs by grid", _names(paired), why))
    return found


def _names(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(file.name for file in files[:_SHOWN]) + more
