"""A site's own data beside the consortium's, before anything starts: lines for its table and a picture, both for it alone.

The consortium is the file that `medseg federate stats` wrote for all; where there is none yet, what the bundle says of the
data that it is for: channels, structures and their names, modality.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from medseg.bundle.config import read_config
from medseg.bundle.described import read_channels, read_labels
from medseg.errors import InputError
from medseg.federated.stats.agreement import bins_for, compare
from medseg.federated.stats.agreement_figure import agreement_figure, write_figure
from medseg.federated.stats.fingerprint import AT_LEAST, fingerprint_of
from medseg.federated.stats.fingerprint_json import from_json
from medseg.federated.stats.reference import of_bundle
from medseg.federated.stats.survey import survey
from medseg.workflows.doctor import Check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.federated.stats.fingerprint import Fingerprint

#: Beside the kit's other local files, where the coordinator sent it.
CONSORTIUM = "consortium.json"
_VERDICTS = {"fail": "fail", "warn": "warn", "note": "ok"}


def regard(
    site: str,
    data: Path,
    bundle: Path,
    picture: Path,
    *,
    consortium: Path | None = None,
    at_least: int = AT_LEAST,
    progress: Callable[[int, int], None] | None = None,
) -> list[Check]:
    """Compare a site's cases with the others', and draw both.

    Args:
        site: its name.
        data: folder of its cases.
        bundle: folder of the bundle.
        picture: PNG file that is written.
        consortium: what `medseg federate stats` wrote for all; None: the bundle stands for it.
        at_least: cases below which nothing is compared.
        progress: called with (cases read, cases in all).

    Returns:
        A line for each finding; one that says ok where there is none.

    Raises:
        InputError: MS-J069 the consortium's file cannot be read; else as for `survey`.
    """
    others = of_bundle(bundle) if consortium is None else _pooled(consortium)
    config, metadata = read_config(bundle, "inference"), read_config(bundle, "metadata")
    names = read_channels(config, metadata, bundle)
    seen = survey(
        data,
        names if len(names) > 1 else (),
        labels=read_labels(config, metadata, bundle),
        progress=progress,
    )
    own = fingerprint_of(seen, at_least=at_least)
    shared = tuple(one.bins for one in others.channels if one.bins is not None)
    own = fingerprint_of(seen, shared if len(shared) == len(others.channels) else bins_for([own]), at_least)
    findings = compare(site, own, others)
    other = "the bundle" if consortium is None else "the others"
    write_figure(picture, agreement_figure({site: own, other: others}, findings))
    if not findings:
        return [Check("data beside others", "ok", f"{own.cases} cases fit {other} (picture: {picture})")]
    lines = [Check(one.code, _VERDICTS[one.verdict], one.what, one.mend) for one in findings]
    return [*lines, Check("data beside others", "ok", f"drawn in {picture}")]


def _pooled(file: Path) -> Fingerprint:
    try:
        return from_json(json.loads(file.read_text(encoding="utf-8"))["pooled"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("MS-J069", f"the consortium's file cannot be read ({error})", file=file,
                         mend="give the file that medseg federate stats wrote, or leave it out") from error  # fmt: skip
