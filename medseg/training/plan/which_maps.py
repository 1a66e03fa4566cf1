"""What is said of images with no label map, with several, and of the kind of label map that was taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.training.plan.choice import Choice
from medseg.training.plan.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case

#: So many names stand in one message.
_SHOWN = 5
_LIST = "say which it is in a CSV list with name, image and label"


def without_label(case: Case, *, others: bool) -> Problem:
    """MS-T141: an image without a label map, or with several of which none was taken.

    Args:
        case: without a label.
        others: a kind of label map was taken that other images have: then this one is left out, and nothing is wrong.
    """
    file = str(case.images[0]) if case.images else ""
    if not case.maps:
        mend = f"add its label map, take the image out, or {_LIST}"
        return Problem("MS-T141", "this image has no label map of its name", file, mend, case.name)
    held = f"{len(case.maps)} label maps: {_names(case.maps)}"
    if others:
        what = f"left out: none of its label maps is of the kind that was taken of the others; it has {held}"
        return Problem("MS-T141", what, file, f"to use it, {_LIST}", case.name, note=True)
    what = f"no kind of label map is more common than the others, and this image has {held}"
    return Problem("MS-T141", what, file, f"move the others away, or {_LIST}", case.name)


def without_images(folder: Path, files: Sequence[Path]) -> Problem:
    """MS-T142: a folder beside the images' with nothing but label maps."""
    what = f"passed over: it holds label maps alone, {len(files)} of them, and no image"
    return Problem("MS-T142", what, str(folder), "nothing, unless their images should be here", note=True)


def kind_choice(cases: Iterable[Case]) -> list[Choice]:
    """Which of several label maps are learnt, where there was a choice."""
    several = [case for case in cases if len(case.maps) > 1]
    if not several:
        return []
    taken = [case.label for case in several if case.label is not None]
    unused = [file for case in several for file in case.maps if file != case.label]
    why = f"the kind that most images have, told by the files' names; not used: {_names(unused)}"
    return [Choice("label maps", _names(taken), why)]


def _names(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(file.name for file in files[:_SHOWN]) + more
