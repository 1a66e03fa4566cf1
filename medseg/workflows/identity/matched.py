"""References called by names, predictions by pseudonyms: one key gives both the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from secrets import token_bytes
from typing import TYPE_CHECKING

from medseg.readers.cases.names import collision_key
from medseg.workflows.identity.key import Key, find_key, is_pseudonym, read_key
from medseg.workflows.identity.teller import Teller

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.cases.label_maps import LabelMap


@dataclass(frozen=True)
class Matched:
    """How an evaluation calls its cases.

    Args:
        pred: the predictions, a file or a folder.
        ref: the references.
        key: of the predictions' pseudonyms; None where they are called by names, or the key is not known.
        hidden: whether the predictions are called by pseudonyms, so that no name may be told.
        spare: tells files by pseudonyms of this run where the key is not known.
    """

    pred: Path
    ref: Path
    key: Key | None = None
    hidden: bool = False
    spare: Key | None = None

    def references(self, found: Sequence[LabelMap], predicted: Sequence[LabelMap]) -> list[LabelMap]:
        """The references, called as their predictions are; those without a prediction by pseudonyms too."""
        if self.key is None:
            return list(found)
        taken = {collision_key(item.name) for item in predicted}
        named = [
            item if collision_key(item.name) in taken else replace(item, name=self.name(item.name)) for item in found
        ]
        return sorted(named, key=lambda item: item.name)

    def name(self, case: str) -> str:
        """What the results call a case that a list or a folder calls by its name."""
        return case if self.key is None or is_pseudonym(case) else self.key.case(case)

    def subject(self, subject: str) -> str:
        """Likewise of a subject."""
        return subject if self.key is None else self.key.subject(subject)

    def of(self, case: str = "", files: Sequence[Path] = ()) -> Teller:
        """How the files of a case are told, and words about it; without one, of the whole.

        Args:
            case: what it is called.
            files: its reference, and what else lies outside the folder of predictions.
        """
        results = self.pred if self.pred.is_dir() else self.pred.parent
        return Teller(self.ref, results, case, tuple(files), self.key or self.spare)


def matched(pred: Path, ref: Path, predicted: Sequence[str], key_file: Path | None = None) -> Matched:
    """How an evaluation calls its cases.

    Args:
        pred: the predictions.
        ref: the references; the key is looked for beside them and above where none is given.
        predicted: names of the predictions.
        key_file: the key.

    Raises:
        UsageError: MS-U401 the key cannot be used.
    """
    if not any(map(is_pseudonym, predicted)):
        return Matched(pred, ref)
    key = find_key(ref) if key_file is None else read_key(key_file)
    return Matched(pred, ref, key, hidden=True, spare=Key(token_bytes(32)))
