"""What the headers of all label maps refuse, told before the first is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.readers.cases.headers import check_image
from medseg.workflows.outcome import Failure

if TYPE_CHECKING:
    from medseg.readers.options import ReadOptions
    from medseg.workflows.evaluation.pairs import Pairs


def refused_by_headers(pairs: Pairs, options: ReadOptions) -> tuple[Failure, ...]:
    """One row for each pair of which a file cannot be read, as far as headers tell; scoring it will fail the same."""
    rows = []
    for pair in pairs.pairs:
        for item in (pair.ref, pair.pred):
            try:
                for file in () if item is None else item.files:
                    check_image(file, options)
            except MedsegError as error:
                teller = pairs.calls.of(pair.name, pair.ref.files)
                rows.append(Failure.of(pair.name, error, item.files[0] if item else "", teller))
                break
            except OSError:
                continue  # reading it will tell
    return tuple(rows)
