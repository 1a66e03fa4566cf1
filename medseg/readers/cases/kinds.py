"""Which of an image's several label maps: of one kind for all images, told by what the files are called.

A kind is what a label map's name says beside the image's: ('seg', 'manual') of t2_seg-manual beside t2. Taken is the kind of
which most images have a label map; where none stands out, the longest beginning that more kinds share: seg_fast of one
image's seg_fast and another's seg_fast_split. Where two kinds are as common as each other nothing is guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.readers.cases.names import SEPARATORS, stem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case

Kind = tuple[str, ...]
_WORDS = re.compile(f"[^{re.escape(SEPARATORS)}]+")


def of_one_kind(cases: Sequence[Case]) -> list[Case]:
    """The same cases; one with several label maps has that of the kind that they share as its label, where there is one."""
    kind = shared_kind(cases)
    return [replace(case, label=_of_kind(case, kind)) if len(case.maps) > 1 else case for case in cases]


def shared_kind(cases: Iterable[Case]) -> Kind | None:
    """The kind of label map that most of the images have, None where none is more common than any other."""
    held = [{kind_of(file, case) for file in case.maps} for case in cases]
    exact = Counter(kind for kinds in held for kind in kinds)
    beginnings = Counter(
        begin for kinds in held for begin in {kind[:n] for kind in kinds for n in range(1, len(kind) + 1)}
    )
    common = _most(exact)
    if len(common) == 1 and exact[common[0]] > 1:
        return common[0]
    wide = _most(beginnings)
    if not wide or beginnings[wide[0]] == max(exact.values()):
        return None
    longest = [kind for kind in wide if len(kind) == max(map(len, wide))]
    return longest[0] if len(longest) == 1 else None


def kind_of(file: Path, case: Case) -> Kind:
    """What a label map's name says beside the name of the case or of its first image."""
    words = _words(stem(file))
    names = [_words(case.name), *(_words(stem(image)) for image in case.images[:1])]
    return min((_beside(words, name) for name in names), key=len)


def _of_kind(case: Case, kind: Kind | None) -> Path | None:
    """Its one label map of a kind, or the one with the fewest words more."""
    if kind is None:
        return None
    kinds = {file: kind_of(file, case) for file in case.maps}
    fits = [file for file in case.maps if kinds[file][: len(kind)] == kind]
    least = [file for file in fits if len(kinds[file]) == min(len(kinds[one]) for one in fits)]
    return least[0] if len(least) == 1 else None


def _most(counts: Counter[Kind]) -> list[Kind]:
    most = max(counts.values(), default=0)
    return [kind for kind, count in counts.items() if count == most]


def _words(text: str) -> Kind:
    return tuple(_WORDS.findall(text.casefold()))


def _beside(words: Kind, name: Kind) -> Kind:
    """`words` without those with which both begin, or where there are none, with which both end."""
    same = _alike(words, name)
    if same:
        return words[same:]
    same = _alike(words[::-1], name[::-1])
    return words[: len(words) - same]


def _alike(a: Kind, b: Kind) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
