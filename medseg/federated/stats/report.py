"""What the statistics leave behind: one file for all, and two that only the coordinator has."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.federated.stats.agreement import agree
from medseg.federated.stats.agreement_figure import agreement_figure, write_figure
from medseg.federated.stats.fingerprint_json import from_json
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.federated.stats.agreement import Agreement
    from medseg.labels import LabelTable

#: For every site: all sites pooled and what was agreed. Each site by itself, and what was found of it. The picture.
CONSORTIUM, REPORT, PICTURE = "consortium.json", "sites.json", "sites.png"


def write_report(folder: Path, agreement: Agreement) -> None:
    """Write `consortium.json`, `sites.json` and `sites.png` into a folder; errors as for `atomic_write`."""
    write_json(folder / CONSORTIUM, agreement.to_json(single_sites=False))
    write_json(folder / REPORT, agreement.to_json())
    write_figure(folder / PICTURE, agreement_figure(agreement.sites, agreement.findings))


def agreement_at(folder: Path, labels: LabelTable | None = None) -> Agreement:
    """The agreement of a report, made again from what the sites told.

    Args:
        folder: of `write_report`.
        labels: of the bundle that is to be trained.

    Raises:
        InputError: MS-J176 there is no report, or it was changed; MS-J170 a fingerprint in it is none.
    """
    path = folder / REPORT
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        sites = {str(name): from_json(one) for name, one in said["sites"].items()}
        return agree(sites, labels, [str(name) for name in said["held_out"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("MS-J176", f"the report of the sites cannot be read ({error})", file=path,
                         mend="run medseg federate stats again") from error  # fmt: skip


def taken_over(fetched: Path, out: Path) -> None:
    """Move the report out of what a server's job left, wherever NVFLARE put it.

    Raises:
        InputError: MS-J176 it is not there.
    """
    found = next(iter(sorted(fetched.rglob(REPORT))), None)
    if found is None:
        raise InputError("MS-J176", "the server's job left no report", file=fetched, mend="look at the server's log")
    out.mkdir(parents=True, exist_ok=True)
    for name in (CONSORTIUM, REPORT, PICTURE):
        shutil.move(found.with_name(name), out / name)
