"""What the labelled cases that a model was trained with tell: its domain, and how they store their axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.bundle.domain import measure_domain, volumes_ml
from medseg.errors import InputError
from medseg.readers.cases import find_cases, load_case, load_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.volume import Volume

#: Of more cases so many are measured, spread over all.
MOST = 200


@dataclass(frozen=True)
class Told:
    """What the cases tell.

    Args:
        domain: of inference.json.
        axcodes: directions of their axes, such as "LPS"; None where they differ.
    """

    domain: dict[str, Any]
    axcodes: str | None


def look_at_cases(
    data: Path,
    channels: Sequence[str],
    table: LabelTable,
    modality: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Told:
    """Read the cases one by one.

    Volumes are those of structures that every case has: of others it is no news that one is absent.

    Args:
        data: nnU-Net's raw dataset, or whatever else `find_cases` takes.
        channels: names of the image's channels.
        table: structures of the label maps.
        modality: DICOM's terms, where they are known.
        progress: called with (cases read, cases in all).

    Raises:
        InputError: MS-C1xx the cases or their label maps cannot be used, MS-B159 a scan is constant; and what readers
            raise.
    """
    cases = find_cases(data, channels=channels, need_labels=True)
    chosen = cases[:: max(1, -(-len(cases) // MOST))]
    stored: set[str] = set()
    volumes: list[dict[str, float]] = []

    def scans() -> Iterator[Volume]:
        for n, case in enumerate(chosen):
            scan = load_case(case, channels)
            stored.add(scan.grid.axcodes)
            volumes.append(volumes_ml(load_label(case, scan), table))
            yield scan
            if progress is not None:
                progress(n + 1, len(chosen))

    try:
        domain = measure_domain(scans(), modality=modality, anatomy="as the cases that nnU-Net trained with")
    except ValueError as error:
        raise InputError(
            "MS-B159", str(error), file=data, mend="take the scan out of the dataset, or import without --data"
        ) from error
    everywhere = [name for name in volumes[0] if all(name in one for one in volumes)]
    spans = {name: [one[name] for one in volumes] for name in everywhere}
    domain["volume_ml"] = {name: [round(min(ml), 4), round(max(ml), 4)] for name, ml in spans.items()}
    return Told(domain, stored.pop() if len(stored) == 1 else None)
