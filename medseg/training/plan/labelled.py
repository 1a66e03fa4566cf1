"""The dataset with its label maps: as they lie there, of several annotators fused, or of masks merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.training.plan.annotators import fuse_dataset
from medseg.training.plan.classes import ignore_value, known_values
from medseg.training.plan.mask_merge import merge_masks
from medseg.training.plan.mask_sets import find_mask_sets
from medseg.training.plan.opinions import find_opinions
from medseg.training.plan.sources import find_source
from medseg.training.plan.which_maps import map_choices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from medseg.training.plan.annotators import Agreement
    from medseg.training.plan.choice import Choice
    from medseg.training.plan.sources import Source


@dataclass(frozen=True)
class Labelled:
    """The dataset that is planned with.

    Args:
        source: its cases.
        choices: how their label maps came about, for the report.
        agreement: what was learnt of several annotators.
        written: whether the label maps were made, and lie beside the bundle.
    """

    source: Source
    choices: Sequence[Choice]
    agreement: Agreement | None = None
    written: bool = False


def find_labelled(
    data: Path,
    folder: Path,
    *,
    channels: Sequence[str] = (),
    annotators: str | None = None,
    masks: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """The dataset as it is, or with label maps of several annotators or masks of each structure put together in `folder`.

    Args:
        data: as for `find_source`.
        folder: of the label maps that are made, new or empty; nothing is written where the dataset has its own.
        channels: as for `find_source`.
        annotators: how theirs are fused, one of `fusion.METHODS`; None: there is one label map a case, or masks.
        masks: merge a mask a structure.
        progress: called with (cases read, cases in all).

    Raises:
        DatasetError: MS-T140 with every label map or mask that cannot be used.
        InputError: MS-T103, MS-T150, MS-T154 as `plan_bundle`.
        OutputError: MS-T152 the folder holds something already.
    """
    if annotators is None:
        sets = find_mask_sets(data, channels) if masks else None
        if sets is not None:
            source, merged = merge_masks(sets, folder, progress=progress)
            return Labelled(source, [merged], written=True)
        source = find_source(data, channels)
        return Labelled(source, map_choices(source.cases, source.kind))
    opinions = find_opinions(data, channels)
    known, ignore = known_values(opinions.source.said), ignore_value(opinions.source.said)
    source, agreement = fuse_dataset(opinions, annotators, folder, known=known, ignore=ignore, progress=progress)
    return Labelled(source, [agreement.choice()], agreement, written=True)
