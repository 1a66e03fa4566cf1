"""Names and UIDs in a text, replaced by what may be told."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.readers.cases.names import safe_name, stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: DICOM and other OIDs of at least six numbers; those that the standard itself defines tell of nobody.
_UID = re.compile(r"(?<![\w.])(?!1\.2\.840\.10008\.)[0-2](?:\.\d+){5,}(?!\.?\w)")
#: What folders and files are called everywhere, and words of our own messages: of nobody.
_COMMON = frozenset(
    """a an and as at be by for from has have in is it its no none not of off on one or that the them then they this to two
    was where which with case cases channel ct ce cta data dataset dcm dicom dir examination export exports file files
    folder folders head image images imagests imagestr img input inputs label labels labelstr list mask masks mr mri nii
    nifti nrrd mha mhd json csv tsv other others out output patient patients pet pt scan scans segment segmentation series
    set slice slices study studies test train training volume volumes voxels mm flair t1 t1w t2 t2w adc dwi brain abdomen
    chest medseg predict evaluate inspect""".split()  # noqa: SIM905  words, read as such
)
_SHORTEST = 2
#: A number of fewer digits is as likely a count or a distance as a name.
_SHORTEST_NUMBER = 5


def hide(text: str, names: Mapping[str, str], uid: Callable[[str], str] | None = None) -> str:
    """`text` without the given names.

    Args:
        text: words for people.
        names: name -> what stands instead; found as whole words only, longer ones first.
        uid: what stands instead of a UID; None leaves them.
    """
    for name in sorted(names, key=len, reverse=True):
        if name in text:
            instead = names[name]
            end = r"(?![^\W_])" if name[-1].isalnum() else ""
            text = re.sub(rf"(?<![^\W_]){re.escape(name)}{end}", lambda _, instead=instead: instead, text)
    return text if uid is None else _UID.sub(lambda hit: uid(hit[0]), text)


def telling(name: str) -> bool:
    """Whether a name could tell of somebody: not a word that folders are called by everywhere, nor a small number."""
    if name.casefold() in _COMMON or len(name) < _SHORTEST:
        return False
    return not name.isdigit() or len(name) >= _SHORTEST_NUMBER


def spellings(name: str) -> set[str]:
    """A name of a file or folder as messages may spell it: whole, without extension, as a case is called, escaped."""
    forms = {name, stem(Path(name)), Path(name).stem, safe_name(name), safe_name(stem(Path(name)))}
    forms |= {unicodedata.normalize(form, one) for one in forms for form in ("NFC", "NFD")}
    forms |= {repr(one)[1:-1] for one in forms} | {one.encode("unicode_escape").decode() for one in forms}
    return {one for one in forms if telling(one)}


def parts_of(paths: Iterable[Path], base: Path) -> set[str]:
    """Every name in the way from `base` to the paths, and the ways themselves; of paths elsewhere their last two names."""
    out: set[str] = set()
    for path in paths:
        parts = path.relative_to(base).parts if path.is_relative_to(base) else path.parts[-2:]
        out.update(parts)
        if len(parts) > 1:
            out |= {"/".join(parts), "_".join(parts), str(Path(*parts))}
    return out
