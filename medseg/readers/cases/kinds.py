"""Which of an image's several label maps: of one kind for all images, told by what the files are called.

A kind is what a label map's name says beside the image's: ('seg', 'manual') of t2_seg-manual beside t2. Taken is the kind of
which more images have a label map than of any other; where none stands out, a beginning that more kinds share, if it tells one
label map of every image: seg_fast of one image's seg_fast and another's seg_fast_split. Where two kinds are as common as each
other nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.readers.cases.names import stem, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case

Words = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """What the names of the label maps that are taken say beside their images'.

    Args:
        words: that they say.
        exact: nothing but these; else they begin with them.
    """

    words: Words
    exact: bool

    def among(self, case: Case) -> list[Path]:
        """A case's label maps of this kind; of those that begin with it the one that says nothing more comes first."""
        said = {file: words_beside(file, case) for file in case.maps}
        same = [file for file, words in said.items() if words == self.words]
        if self.exact or same:
            return same
        return [file for file, words in said.items() if words[: len(self.words)] == self.words]


def of_one_kind(cases: Sequence[Case], kind: Kind | None) -> list[Case]:
    """The same cases, each with the label map of that kind where it has one.

    A case's only label map stays its own, unless it is of a kind that was passed over where an image had both.
    """
    if kind is None:
        return list(cases)
    passed_over = {
        words_beside(file, case)
        for case in cases
        if len(case.maps) > 1 and kind.among(case)
        for file in case.maps
        if file not in kind.among(case)
    }
    return [_labelled(case, kind, passed_over) for case in cases]


def shared_kind(cases: Iterable[Case]) -> Kind | None:
    """The kind of label map that most of the images have; None where nothing stands out, or no image has several."""
    cases = [case for case in cases if case.maps]
    if all(len(case.maps) == 1 for case in cases):
        return None
    held = [{words_beside(file, case) for file in case.maps} for case in cases]
    exact = Counter(words for one in held for words in one)
    most = [words for words, count in exact.items() if count == max(exact.values())]
    if len(most) == 1 and exact[most[0]] > 1:
        return Kind(most[0], exact=True)
    begins = Counter(start for one in held for start in {words[:n] for words in one for n in range(1, len(words) + 1)})
    wide = [words for words, count in begins.items() if count == max(begins.values()) > max(exact.values())]
    kinds = [Kind(words, exact=False) for words in sorted(wide, key=len, reverse=True)]
    return next((kind for kind in kinds if all(len(kind.among(case)) < 2 for case in cases)), None)


def words_beside(file: Path, case: Case) -> Words:
    """What a label map's name says beside the name of the case or of its first image."""
    words = words_of(stem(file))
    names = [words_of(case.name), *(words_of(stem(image)) for image in case.images[:1])]
    return min((_beside(words, name) for name in names), key=len)


def _labelled(case: Case, kind: Kind, passed_over: set[Words]) -> Case:
    found = kind.among(case)
    if len(found) == 1:
        return replace(case, label=found[0])
    alone = len(case.maps) == 1 and words_beside(case.maps[0], case) not in passed_over
    return case if alone or not case.maps else replace(case, label=None)


def _beside(words: Words, name: Words) -> Words:
    """`words` without those with which both begin, or where there are none, with which both end."""
    same = _alike(words, name)
    if same:
        return words[same:]
    same = _alike(words[::-1], name[::-1])
    return words[: len(words) - same]


def _alike(a: Words, b: Words) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
